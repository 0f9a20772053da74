"""What our CondInst computes from the fixtures' weights and inputs, under the published names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.models import BasisSegmenter
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.fcos_head import CondInstHead
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Bases, Detections, FrameMasks, ImageBatch
from reference.blendmask_inputs import Sample
from reference.blendmask_outputs import (
    Arrays,
    arrays,
    feature_maps,
    head_maps,
    instance_arrays,
    level,
    test_size,
    watch,
)


@dataclass
class Prediction:
    """What inference gives for one image by itself."""

    images: NDArray[np.float32]  #: 1×3×H×W, the network's input
    maps: Arrays  #: whole dense maps, 1×C×h×w
    detections: Arrays  #: by the published name's ending
    instances: Arrays  #: likewise; masks are N×H×W bool
    masks: FrameMasks  #: of the detections


def predict(model: BasisSegmenter, samples: list[Sample]) -> list[Prediction]:
    """Run ``model.predict`` on each image alone, as published, and keep what the parts gave."""
    preprocessor = model.preprocessor
    assert isinstance(preprocessor, Preprocessor)
    preprocessor.shorter, preprocessor.longer_max = test_size(samples)
    model.eval()
    return [_predict(model, sample) for sample in samples]


def _predict(model: BasisSegmenter, sample: Sample) -> Prediction:
    head, assembler, backbone = model.instance_head, model.assembler, model.backbone
    assert isinstance(head, CondInstHead)
    assert isinstance(assembler, DynamicMaskHead)
    assert isinstance(backbone, ResNetFPN)
    parts = {
        "batch": model.preprocessor,
        "stages": backbone.body,
        "features": backbone,
        "outputs": head,
        "bases": model.basis_head,
    }
    with watch(parts) as seen:
        (instances,) = model.predict([sample.original])
    batch: ImageBatch = seen["batch"]
    bases: Bases = seen["bases"]
    with torch.inference_mode():
        (detected,) = head.detect(seen["outputs"])
        maps = feature_maps(seen["stages"], seen["features"])
        maps |= head_maps(head, seen["outputs"], "ctrl") | arrays(mask_feats=bases.maps)
        masks = assembler.assemble(bases, [detected.boxes], detected.coefficients)
        found = _detected(head, assembler, bases, detected)
    return Prediction(batch.images.numpy(), maps, found, instance_arrays(instances), masks)


def _detected(
    head: CondInstHead, assembler: DynamicMaskHead, bases: Bases, found: Detections
) -> Arrays:
    """The last three coefficients say where a detection is from."""
    sizes = found.coefficients[:, -1:] == torch.tensor(head.level_sizes)
    image = torch.zeros(len(found), dtype=torch.int64)
    logits = assembler.logits(bases, image, found.coefficients)
    grid = bases.maps.shape[-2:]
    return arrays(
        boxes=found.boxes,
        scores=found.scores,
        classes=found.labels,
        locations=found.coefficients[:, -3:-1],
        levels=torch.tensor([level(stride) for stride in head.strides])[sizes.int().argmax(1)],
        params=found.coefficients[:, :-3],
        rel_coords=assembler.offsets(bases, found.coefficients).unflatten(2, grid),
        logits_stride8=logits,
        logits_stride4=assembler.enlarged(logits),
    )
