from __future__ import annotations

import pytest
import torch
from torch import nn

from b2inst.benchmark.cost import gflops, peak_memory_mb


def test_operations_of_a_convolution_and_a_linear_layer() -> None:
    conv, linear = nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.Linear(100, 50)
    image, row = torch.zeros(2, 8, 32, 64), torch.zeros(7, 100)

    @torch.inference_mode()
    def work() -> None:
        conv(image)
        linear(row)

    multiply_adds = 2 * (16 * 16 * 32) * (8 * 9) + 7 * 50 * 100
    assert gflops(work) == pytest.approx(2e-9 * multiply_adds)


def test_peak_is_of_what_is_held_together() -> None:
    def work() -> None:
        one = torch.zeros(1_000_000)  # 4 MB
        two = torch.zeros(500_000)
        del one
        three = torch.zeros(1_000_000)
        del two, three

    assert peak_memory_mb(work, torch.device("cpu")) == pytest.approx(6.0, rel=0.01)
