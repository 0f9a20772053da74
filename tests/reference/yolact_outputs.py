"""What our YOLACT computes from the fixtures' weights and inputs, under the published names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from b2inst.models import BasisSegmenter
from b2inst.modules.backbones import YolactFPN
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.prior_box_head import PriorBoxHead, PriorOutputs
from b2inst.ops.fast_nms import cross_class_fast_nms, fast_nms
from b2inst.structures import Bases, Detections, FrameMasks
from reference.blendmask_outputs import Arrays, level, watch
from reference.yolact_inputs import Sample

Suppress = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

#: The published names of the two kinds of suppression.
SUPPRESSION: dict[str, Suppress] = {"det": fast_nms, "cc": cross_class_fast_nms}


@dataclass
class Predictions:
    """What inference gives, of a batch of all images."""

    images: NDArray[np.float32]  #: B×3×S×S, the network's input
    maps: Arrays  #: whole dense maps, B×C×h×w
    priors: Arrays  #: predictions of all prior boxes, B×S×…, and the boxes themselves
    prior_counts: list[int]  #: of each level
    detections: dict[str, list[Arrays]]  #: by the kind of suppression, of each image


def predict(model: BasisSegmenter, samples: list[Sample]) -> Predictions:
    """Run ``model.predict`` and keep what its parts gave."""
    head, backbone = model.instance_head, model.backbone
    assert isinstance(head, PriorBoxHead)
    assert isinstance(backbone, YolactFPN)
    parts = {
        "batch": model.preprocessor,
        "stages": backbone.body,
        "features": backbone,
        "outputs": head,
        "bases": model.basis_head,
    }
    with watch(parts) as seen:
        model.eval().predict([sample.original for sample in samples])
    outputs: PriorOutputs = seen["outputs"]
    bases: Bases = seen["bases"]
    maps = {f"C{level(int(stride))}": value for stride, value in seen["stages"].items()}
    maps |= {f"P{level(stride)}": value for stride, value in seen["features"].items()}
    maps["proto"] = bases.maps
    with torch.inference_mode():
        detections = {
            name: _detect(model, samples, outputs, bases, nms) for name, nms in SUPPRESSION.items()
        }
        priors = {
            "loc": outputs.offsets,
            "conf_logits": outputs.class_logits,
            "mask_coef": _all_coefficients(head, outputs).tanh(),
            "priors": head.priors(outputs),
        }
    each = len(head.factors)
    return Predictions(
        images=seen["batch"].images.numpy(),
        maps={name: value.numpy() for name, value in maps.items()},
        priors={name: value.numpy() for name, value in priors.items()},
        prior_counts=[each * tower.shape[2] * tower.shape[3] for tower in outputs.towers],
        detections=detections,
    )


def _all_coefficients(head: PriorBoxHead, outputs: PriorOutputs) -> Tensor:
    """Sparse in use, here computed everywhere: B×S×D."""
    levels = [head.coefficients(tower) for tower in outputs.towers]
    each = [
        values.unflatten(1, (len(head.factors), -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        for values in levels
    ]
    return torch.cat(each, dim=1)


def _detect(
    model: BasisSegmenter,
    samples: list[Sample],
    outputs: PriorOutputs,
    bases: Bases,
    nms: Suppress,
) -> list[Arrays]:
    head, assembler = model.instance_head, model.assembler
    assert isinstance(head, PriorBoxHead)
    assert isinstance(assembler, LinearAssembler)
    before, head.nms = head.nms, nms
    try:
        detections = head.detect(outputs)
    finally:
        head.nms = before
    boxes = [found.boxes for found in detections]
    coefficients = torch.cat([found.coefficients for found in detections])
    masks = assembler.assemble(bases, boxes, coefficients)
    results = []
    start = 0
    for sample, found in zip(samples, detections, strict=True):
        own = masks[start : start + len(found)]
        start += len(found)
        results.append(_arrays(head.side, sample, found, own))
    return results


def _arrays(side: int, sample: Sample, found: Detections, masks: FrameMasks) -> Arrays:
    height, width = size = sample.original_size
    tensors: dict[str, Any] = {
        "boxes": found.boxes / side,
        "scores": found.scores,
        "classes": found.labels,
        "coef": found.coefficients.tanh(),
        "lowres_masks": masks.probabilities,
        "masks": masks.paste(found.boxes, size, (side, side)),
        "final_int_boxes": whole_boxes(found.boxes / side, (height, width)),
    }
    return {name: value.numpy() for name, value in tensors.items()}


def whole_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Relative boxes in pixels of an image as they are published, cut to whole numbers."""
    height, width = size
    limit = torch.tensor([width, height])
    pixels = (boxes.view(-1, 2, 2) * limit).sort(dim=1).values.clamp(min=0)
    return torch.minimum(pixels, limit).long().flatten(1)
