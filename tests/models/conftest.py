from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.fcos_head import FCOSHead


@pytest.fixture
def tiny() -> Callable[..., BasisSegmenter]:
    """A function: name and options to a small model that finds something in any image."""

    def build(name: str = "b2inst-blendmask-tiny", **options: object) -> BasisSegmenter:
        torch.manual_seed(0)
        model = create_model(name, num_classes=3, class_names=("a", "b", "c"), **options)
        assert isinstance(model.instance_head, FCOSHead)
        torch.nn.init.constant_(model.instance_head.class_logits.bias, 0.0)  # type: ignore[arg-type]
        torch.nn.init.constant_(model.instance_head.distances.bias, 1.5)  # type: ignore[arg-type]
        torch.nn.init.normal_(model.instance_head.distances.weight, std=0.1)
        model.instance_head.max_detections = 15
        return model.eval()

    return build


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """A function: height, width and seed to a random H×W×3 uint8 array."""

    def make(height: int = 96, width: int = 96, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3))
        return coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width].copy()

    return make
