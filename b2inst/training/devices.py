"""The processes of a run: one per device, on one or several machines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch.distributed as dist

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
            if processes % here:
                raise ValueError(
                    f"{processes} processes, {here} of them here; start the same number on every "
                    "machine"
                )
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
