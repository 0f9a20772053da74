"""What our BlendMask computes from the fixtures' weights and inputs, under the published names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from b2inst.models import BasisSegmenter
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.blender import Blender
from b2inst.modules.fcos_head import DenseOutputs, FCOSHead
from b2inst.modules.fcos_targets import locations
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Bases, Detections, Features, ImageBatch, Instances
from reference.blendmask_inputs import Sample

Arrays = dict[str, NDArray[Any]]


@dataclass
class Predictions:
    """What inference gives, of a batch of all images."""

    images: NDArray[np.float32]  #: B×3×H×W, the network's input
    maps: Arrays  #: whole dense maps, B×C×h×w
    detections: list[Arrays]  #: of each image, by the published name's ending
    instances: list[Arrays]  #: likewise; masks are N×H×W bool


def predict(model: BasisSegmenter, samples: list[Sample]) -> Predictions:
    """Run ``model.predict`` and keep what its parts gave."""
    head, blender, backbone = model.instance_head, model.assembler, model.backbone
    assert isinstance(head, FCOSHead)
    assert isinstance(blender, Blender)
    assert isinstance(backbone, ResNetFPN)
    preprocessor = model.preprocessor
    assert isinstance(preprocessor, Preprocessor)
    preprocessor.shorter, preprocessor.longer_max = test_size(samples)
    parts = {
        "batch": preprocessor,
        "stages": backbone.body,
        "features": backbone,
        "outputs": head,
        "bases": model.basis_head,
    }
    with watch(parts) as seen:
        originals = [sample.original for sample in samples]
        sizes = [original.shape[:2] for original in originals]
        instances = model.eval().segment([*map(preprocessor.resized, originals)], sizes)
    batch: ImageBatch = seen["batch"]
    bases: Bases = seen["bases"]
    with torch.inference_mode():
        detections = head.detect(seen["outputs"])
        boxes = [found.boxes for found in detections]
        rois = blender.pool(bases.maps, bases.stride, boxes).split([len(b) for b in boxes])
        coefficients = torch.cat([found.coefficients for found in detections])
        masks = blender.assemble(bases, boxes, coefficients).probabilities.split(
            [len(b) for b in boxes]
        )
        found = [
            detection_arrays(d, i, head, seen["outputs"])
            | arrays(masks56=masks[i], roi_bases=rois[i])
            for i, d in enumerate(detections)
        ]
        maps = feature_maps(seen["stages"], seen["features"]) | head_maps(
            head, seen["outputs"], "top"
        )
    return Predictions(
        images=batch.images.numpy(),
        maps=maps | arrays(bases=bases.maps),
        detections=found,
        instances=[instance_arrays(found) for found in instances],
    )


@contextmanager
def watch(parts: dict[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Collect by name what the parts give while the block runs; of several calls the last."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, __, made: seen.update({name: made})

    hooks = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def record(owner: Any, name: str) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    """Collect arguments and results of a function's or method's calls while the block runs."""
    calls: list[tuple[tuple[Any, ...], Any]] = []
    plain = getattr(owner, name)

    def call(*given: Any) -> Any:
        calls.append((given, plain(*given)))
        return calls[-1][1]

    with patch.object(owner, name, call):
        yield calls


def level(stride: int) -> int:
    """Number of a pyramid's level, as in P3: 2 to its power is the stride."""
    return stride.bit_length() - 1


def points(head: FCOSHead, outputs: DenseOutputs) -> list[Tensor]:
    """Per level the positions' centres in pixels of the network's input, hw×2."""
    return [
        locations((tower.shape[2], tower.shape[3]), stride, tower.device)
        for stride, tower in zip(head.strides, outputs.towers, strict=True)
    ]


def test_size(samples: list[Sample]) -> tuple[int, int]:
    """The shorter side, and the limit of the longer one, with which the images were resized."""
    shorter = max(min(sample.resized_size) for sample in samples)
    limited = [max(s.resized_size) for s in samples if min(s.resized_size) < shorter]
    return shorter, max(limited or [max(s.resized_size) + 1 for s in samples])


def arrays(**tensors: Tensor) -> Arrays:
    """Tensors as arrays, by name."""
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def feature_maps(stages: dict[str, Tensor], features: Features) -> Arrays:
    """The ResNet's stages and the pyramid's levels."""
    bottom_up = {f"res{level(int(stride))}": value for stride, value in stages.items()}
    return arrays(**bottom_up, **{f"p{level(s)}": value for s, value in features.items()})


def head_maps(head: FCOSHead, outputs: DenseOutputs, coefficients: str = "") -> Arrays:
    """The head's outputs by level; coefficients, sparse in use, are computed everywhere.

    Args:
        coefficients: what the published model calls them.
    """
    maps: Arrays = {}
    shapes = [tower.shape[2:] for tower in outputs.towers]
    for name, values in (
        ("logits", outputs.class_logits),
        ("reg", outputs.distances),
        ("ctr", outputs.centerness_logits[..., None]),
    ):
        parts = values.split([h * w for h, w in shapes], dim=1)
        for stride, part, shape in zip(head.strides, parts, shapes, strict=True):
            maps |= arrays(**{f"{name}_{level(stride)}": part.mT.unflatten(2, shape)})
    if head.coefficients is not None:
        for stride, tower in zip(head.strides, outputs.towers, strict=True):
            maps |= arrays(**{f"{coefficients}_{level(stride)}": head.coefficients(tower)})
    return maps


def detection_arrays(
    found: Detections, image: int, head: FCOSHead, outputs: DenseOutputs
) -> Arrays:
    """Detections of an image, by the published name's ending."""
    xy = points(head, outputs)
    levels = torch.cat(
        [torch.full((len(p),), level(s)) for p, s in zip(xy, head.strides, strict=True)]
    )
    where = torch.cat(xy)
    reach = outputs.distances[image] * 2 ** levels[:, None]
    boxes = torch.cat([where - reach[:, :2], where + reach[:, 2:]], dim=1)
    # Detections do not say where they are from: it is where their box and score are.
    probability = outputs.class_logits[image].sigmoid()
    score = (probability * outputs.centerness_logits[image].sigmoid()[:, None]).sqrt()
    apart = (boxes - found.boxes[:, None]).abs().amax(2)
    position = (apart + (score[:, found.labels].T - found.scores[:, None]).abs()).argmin(1)
    return arrays(
        boxes=found.boxes,
        scores=found.scores,
        classes=found.labels,
        locations=where[position],
        levels=levels[position],
        top_feat=found.coefficients,
    )


def instance_arrays(found: Instances) -> Arrays:
    """Final instances of an image, by the published name's ending."""
    return arrays(boxes=found.boxes, scores=found.scores, classes=found.labels, masks=found.masks)
