"""How a machine is used, which decides no number except by rounding."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt

from b2inst.experiments.specs.yaml_spec import Spec
from b2inst.training.logs import LoggerName


class Resources(Spec):
    """Processes, threads and batches."""

    jobs: PositiveInt = 1  #: runs at a time
    #: CPU threads of each process of a run, on whose number rounding depends; None: ``settled``.
    threads: PositiveInt | None = None
    devices: PositiveInt = 1  #: GPUs, or CPU processes, of a run on each machine
    machines: PositiveInt = 1  #: of a run; several only as jobs of a cluster
    workers: NonNegativeInt = 0  #: processes that load training data, for each run
    batch: PositiveInt = 1  #: images predicted together
    device: str = "auto"  #: "auto", "cpu", "cuda"
    recompute: bool = False  #: in training, keep fewer activations and compute them again
    logger: LoggerName | None = None  #: of Lightning, which gets what the training log gets
    #: sbatch's options by their long names, such as ``{partition: gpu, time: "24:00:00"}``; true
    #: for those without a value.
    slurm: dict[str, str | int | bool] = Field(default_factory=dict)

    def settled(self) -> Self:
        """Return a copy with the threads given, OMP_NUM_THREADS, or a share of the free cores."""
        said = os.environ.get("OMP_NUM_THREADS", "")
        threads = self.threads or (int(said) if said.isdecimal() else 0)
        if not threads:
            threads = round(free_cores()) // (self.jobs * self.devices) - self.workers
        return self.model_copy(update={"threads": max(threads, 1)})


def free_cores(root: Path = Path("/")) -> float:
    """Return the number of CPU cores that this process may use and no other process uses now."""
    cores = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return min(allowed, _quota(root / "sys/fs/cgroup"), _idle(root / "proc/stat") * cores)


def _quota(group: Path) -> float:
    """Cores' worth of time that a container may use, by either version of Linux's cgroups."""
    files = [group / "cpu.max"]
    if not files[0].is_file():
        files = [group / f"cpu/cpu.cfs_{name}_us" for name in ("quota", "period")]
    try:
        quota, period = map(int, " ".join(file.read_text() for file in files).split())
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError):  # not Linux, or "max"
        return math.inf


def _idle(stat: Path, seconds: float = 0.5) -> float:
    """Share of the machine's time that its cores are idle; 1 where it does not tell."""

    def times() -> list[int]:  # user, nice, system, idle, waiting for disks, …
        return [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:]]

    try:
        before = times()
        time.sleep(seconds)
        spent = [b - a for a, b in zip(before, times(), strict=True)]
        return sum(spent[3:5]) / sum(spent)
    except (OSError, ValueError, ZeroDivisionError):
        return 1.0
