"""The synchronised batch norm of CPUs against PyTorch's, in a world of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from b2inst.training.norms import SyncedBatchNorm, synchronise_norms


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[nn.Sequential]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    model = nn.Sequential(nn.BatchNorm2d(3))
    synchronise_norms(model, torch.device("cpu"))
    assert type(model[0]) is SyncedBatchNorm
    yield model
    dist.destroy_process_group()


def test_outputs_gradients_and_statistics_are_those_of_pytorch(synced: nn.Sequential) -> None:
    torch.manual_seed(0)
    x, plain = torch.randn(2, 3, 4, 5), nn.BatchNorm2d(3)
    results = []
    for norm in (synced[0], plain):
        own = x.clone().requires_grad_()
        y = norm(own)
        y.square().mul(torch.arange(5)).sum().backward()
        results.append((y, own.grad, norm.weight.grad, norm.running_mean, norm.running_var))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_single_value_per_channel_has_no_variance(synced: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="expected more than 1 value per channel"):
        synced(torch.ones(1, 3, 1, 1))
    assert synced[0].running_var.equal(torch.ones(3))
    assert synced[0].running_mean.equal(torch.zeros(3))
