from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from b2inst.models import BasisSegmenter, baseline_of, create_model
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.fcos_head import FCOSHead
from b2inst.structures import Instances
from b2inst.viz.explore.sources import Sample

FAMILIES = ("blendmask", "yolact", "condinst")
NAMES = ("a", "b", "c")
BOX = torch.tensor([6.0, 4.0, 22.0, 28.0])  # of an instance on a grid of 20×16 cells at stride 2

_SMALL = {
    "blendmask": {"shorter": 48, "longer_max": 64},
    "yolact": {"size": 64, "num_bases": 9},
    "condinst": {"shorter": 48, "longer_max": 64},
}


def coefficients(assembler: nn.Module) -> torch.Tensor:
    """For an assembler, of the instance in ``BOX``: D, drawn by lot."""
    count = int(assembler.num_coefficients)  # type: ignore[arg-type]
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(1))
    if isinstance(assembler, DynamicMaskHead):
        drawn[-3:] = torch.tensor([14.0, 16.0, 32.0])  # where the instance is, and its size
    return drawn


@pytest.fixture(scope="session")
def build() -> Callable[..., BasisSegmenter]:
    """A function: name and options to a small model of random weights that finds something."""

    def make(name: str = "b2inst-blendmask-tiny", **options: Any) -> BasisSegmenter:
        torch.manual_seed(0)
        family = baseline_of(name).removesuffix("-tiny")
        options |= _SMALL[family]
        model = create_model(name, num_classes=3, class_names=NAMES, **options)
        head = model.instance_head
        if isinstance(head, FCOSHead):
            torch.nn.init.constant_(head.class_logits.bias, 0.0)
            torch.nn.init.constant_(head.distances.bias, 1.5)
        model.max_detections = 6
        # Masks that fill neither nothing nor everything, and in which each basis has its part.
        with torch.no_grad():
            for part, values in head.named_parameters():
                if part.startswith("coefficients"):
                    values.normal_(std=0.3)
            for values in model.basis_head.parameters():
                if values.ndim == 4:
                    values.mul_(20 ** (1 / 3))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def sample() -> Sample:
    """A picture of 48×64 with two objects, the second in the lower right corner."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    masks = torch.zeros((2, 48, 64), dtype=torch.bool)
    masks[0, 4:24, 6:30] = True
    masks[1, 24:48, 34:64] = True
    boxes = torch.tensor([[6.0, 4.0, 30.0, 24.0], [34.0, 24.0, 64.0, 48.0]])
    ones, labels = torch.ones(2), torch.tensor([0, 2])
    truth = Instances(boxes, ones, ones, labels, masks, class_names=NAMES)
    image = coarse.repeat(8, 0).repeat(8, 1)
    return Sample("image 5", image, truth)
