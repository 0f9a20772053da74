from __future__ import annotations

import torch

from b2inst.modules.tiny_fpn import TinyFPN


def test_tiny_pyramid() -> None:
    features = TinyFPN(widths=(4, 4, 8, 8, 8), channels=6)(torch.rand(2, 3, 64, 96))
    got = {stride: tuple(feature.shape) for stride, feature in features.items()}
    assert got == {4: (2, 6, 16, 24), 8: (2, 6, 8, 12), 16: (2, 6, 4, 6), 32: (2, 6, 2, 3)}
