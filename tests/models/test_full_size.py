from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import b2inst
from b2inst.modules.fcos_head import FCOSHead
from b2inst.structures import Targets


@pytest.mark.slow
def test_b2inst_trains_a_step_and_predicts_at_full_size(
    make_targets: Callable[..., Targets],
) -> None:
    """About half a minute of one core and 4 GB, with 30 instances of 800×1333 pixels."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    corner = random.integers(0, (1000, 560), (30, 2))
    boxes = np.concatenate([corner, corner + random.integers(20, (333, 240), (30, 2))], 1)
    targets = make_targets((800, 1333), boxes.tolist(), random.integers(0, 80, 30).tolist())
    image = random.integers(0, 256, (800, 1333, 3), dtype=np.uint8)

    model = b2inst.create_model("b2inst-blendmask-r50", num_classes=80)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = model([torch.from_numpy(image).permute(2, 0, 1)], [targets])
    assert all(value.isfinite() and value > 0 for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()

    model.eval()
    assert isinstance(model.instance_head, FCOSHead)
    torch.nn.init.zeros_(model.instance_head.class_logits.bias)  # so that something is found
    (found,) = model.predict([image])
    assert 0 < len(found) <= 100
    assert found.masks.shape == (len(found), 800, 1333)
    assert found.iou_scores is not None
