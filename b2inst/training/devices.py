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
class DistributedEnvironment:
    """Which of a run's processes this one is, as whatever started it says.

    Raises:
        ValueError: if machines have different numbers of processes.
    """

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    launcher: Literal["torchrun", "srun"] | None = None

    def __post_init__(self) -> None:
        if self.world_size % self.local_world_size:
            raise ValueError(
                f"{self.world_size} processes, {self.local_world_size} of them here; start the "
                "same number on every machine"
            )

    @property
    def num_nodes(self) -> int:
        return self.world_size // self.local_world_size

    @classmethod
    def detect(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """By the variables that torchrun sets, or srun where it started several tasks."""
        if "TORCHELASTIC_RUN_ID" in environment:
            return cls(
                rank=int(environment["RANK"]),
                world_size=int(environment["WORLD_SIZE"]),
                local_world_size=int(environment["LOCAL_WORLD_SIZE"]),
                launcher="torchrun",
            )
        # Of the step, not of the job: a single process may run in a job that has room for more.
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        if tasks > 1:
            return cls(
                rank=int(environment["SLURM_PROCID"]),
                world_size=tasks,
                local_world_size=tasks // int(environment["SLURM_STEP_NUM_NODES"]),
                launcher="srun",
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

    here = DistributedEnvironment.detect()
    environment = {
        None: LightningEnvironment,
        "torchrun": TorchElasticEnvironment,
        "srun": SLURMEnvironment,
    }[here.launcher]
    fabric = Fabric(
        accelerator=device,
        devices=here.local_world_size,
        num_nodes=here.num_nodes,
        precision=precision,
        plugins=[environment()],
    )
    fabric.launch()
    return fabric


def init_process_group(*, device: str) -> DistributedEnvironment:
    """Join the processes that torchrun or srun started together with this one, if they did."""
    here = DistributedEnvironment.detect()
    if here.world_size > 1:
        launch(device=device)
    return here


def destroy_process_group() -> None:
    """Leave the other processes, once all have what they need of each other."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
