from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from b2inst.benchmark import Sample


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """A function: height, width, seed to a random image with two objects."""

    def make(height: int = 64, width: int = 80, seed: int = 0) -> Sample:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        boxes = np.array([[8, 8, 40, 40], [30, 20, 60, 60]], np.float32)
        return Sample(pixels, boxes)

    return make
