"""Which of a run's processes one is, and the batch norm of CPUs against PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from b2inst.training.devices import SyncedBatchNorm, World, synchronise_norms

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1",
    "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
}  # fmt: skip
#: As Slurm 22.05 sets them in the script of a job with room for eight tasks on two nodes.
JOB = {
    "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8", "SLURM_NNODES": "2",
}  # fmt: skip
#: What differs in a process that srun started there.
STEP = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}


def test_torchrun_counts_over_machines() -> None:
    place = World.from_environment(TORCHRUN)
    assert place == World(5, 8, 4, "torchrun")
    assert place.machines == 2


def test_torchrun_wins_where_srun_started_it() -> None:
    assert World.from_environment({**JOB, **STEP, **TORCHRUN}).started_by == "torchrun"


def test_srun_counts_the_tasks_of_its_step() -> None:
    assert World.from_environment({**JOB, **STEP}) == World(5, 8, 4, "srun")


@pytest.mark.parametrize(
    "alone", [{}, JOB, {**JOB, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}]
)
def test_a_single_process_is_alone_wherever_it_runs(alone: dict[str, str]) -> None:
    assert World.from_environment(alone) == World(0, 1, 1)


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
