"""The devices of a run: one, or several with a process for each, on one machine or more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch.distributed as dist

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class Place:
    """Which of a run's processes this one is, as whatever started it says.

    Raises:
        ValueError: machines have different numbers of processes.
    """

    rank: int = 0  #: from 0
    processes: int = 1  #: of the run
    processes_here: int = 1  #: of them, on this machine
    started_by: Literal["torchrun", "srun"] | None = None

    def __post_init__(self) -> None:
        if self.processes % self.processes_here:
            raise ValueError(
                f"{self.processes} processes, {self.processes_here} of them here; start the same "
                "number on every machine"
            )

    @property
    def machines(self) -> int:
        return self.processes // self.processes_here

    @classmethod
    def of_this_process(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """By the variables that torchrun sets, or srun where it started several tasks."""
        if "TORCHELASTIC_RUN_ID" in environment:
            return cls(
                rank=int(environment["RANK"]),
                processes=int(environment["WORLD_SIZE"]),
                processes_here=int(environment["LOCAL_WORLD_SIZE"]),
                started_by="torchrun",
            )
        # Of the step, not of the job: a single process may run in a job that has room for more.
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        if tasks > 1:
            return cls(
                rank=int(environment["SLURM_PROCID"]),
                processes=tasks,
                processes_here=tasks // int(environment["SLURM_STEP_NUM_NODES"]),
                started_by="srun",
            )
        return cls()


def launch(*, device: str, precision: Any = "32-true") -> Fabric:
    """Fabric on this process's device, joined with the other processes of the run.

    A second call joins nothing anew.

    Args:
        device: "auto", "cpu", "cuda".
        precision: of Lightning Fabric.
    """
    # Only those that train wait for this import: it takes longer than PyTorch's.
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    place = Place.of_this_process()
    environment = {
        None: LightningEnvironment,
        "torchrun": TorchElasticEnvironment,
        "srun": SLURMEnvironment,
    }[place.started_by]
    fabric = Fabric(
        accelerator=device,
        devices=place.processes_here,
        num_nodes=place.machines,
        precision=precision,
        plugins=[environment()],
    )
    fabric.launch()
    return fabric


def join(*, device: str) -> Place:
    """Join the processes that torchrun or srun started together with this one, if they did."""
    place = Place.of_this_process()
    if place.processes > 1:
        launch(device=device)
    return place


def part_ways() -> None:
    """Let the processes go their own ways, once each has what it needs of the others."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
