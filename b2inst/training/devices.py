"""The processes of a run, one per device, and batch norm over the images of all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class World:
    """The processes that were started together, and the rank of this one."""

    rank: int = 0
    processes: int = 1
    processes_here: int = 1  #: on this machine
    started_by: Literal["torchrun", "srun"] | None = None

    @property
    def machines(self) -> int:
        return self.processes // self.processes_here

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the environment variables of torchrun, or of srun with several tasks."""
        if "TORCHELASTIC_RUN_ID" in environment:
            names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
            rank, processes, here = (int(environment[name]) for name in names)
            return cls(rank, processes, here, "torchrun")
        # Of the step, since a single process may run in a job with room for more.
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        if tasks > 1:
            here = tasks // int(environment["SLURM_STEP_NUM_NODES"])
            return cls(int(environment["SLURM_PROCID"]), tasks, here, "srun")
        return cls()


def launch(*, device: str, precision: Any = "32-true") -> Fabric:
    """Launch Lightning Fabric in this process and connect it to the others of the run."""
    # Only training waits for this import, which takes longer than PyTorch's.
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    environments = {"torchrun": TorchElasticEnvironment, "srun": SLURMEnvironment}
    world = World.from_environment()
    fabric = Fabric(
        accelerator=device,
        devices=world.processes_here,
        num_nodes=world.machines,
        precision=precision,
        plugins=[environments.get(world.started_by or "", LightningEnvironment)()],
    )
    # Mixed precision would round inputs too: bfloat16 moves a box by up to 4 of 1333 pixels.
    fabric.strategy.precision.convert_input = lambda data: data  # type: ignore[method-assign]
    fabric.launch()
    return fabric


def join(*, device: str) -> World:
    """Connect the processes that torchrun or srun started, if they did."""
    world = World.from_environment()
    if world.processes > 1:
        launch(device=device)
    return world


def leave() -> None:
    """Wait for the other processes and disconnect from them."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Replace the trainable batch norms of a model by synchronised ones, in place."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    group: Any = dist.new_group()  # never mixes with the gradients' reductions
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm  # keeps parameters, buffers and their names
            cast(SyncedBatchNorm, module).process_group = group


class SyncedBatchNorm(nn.BatchNorm2d):
    """Equivalent of ``nn.SyncBatchNorm``, which supports GPUs only, for any device."""

    process_group: dist.ProcessGroup

    def forward(self: Any, x: Tensor) -> Tensor:  # of any norm, whose statistics could be None
        if not self.training:
            return super().forward(x)
        values, axes = x.float(), (0, 2, 3)
        total = torch.cat([values.sum(axes), values.new_tensor([values[:, 0].numel()])])
        total = _Sum.apply(total, self.process_group)
        count = total[-1]
        if count <= 1:
            raise ValueError(
                "expected more than 1 value per channel when training; use larger images or batches"
            )
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        var = _Sum.apply(centred.square().sum(axes), self.process_group) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over processes. All processes depend on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradients[0], ctx.group), None
