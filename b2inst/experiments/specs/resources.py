"""How a machine is used, which decides no number except by rounding."""

from __future__ import annotations

import os
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


def free_cores() -> float:
    """Return the number of CPU cores that this process may use and no other process uses now."""
    import joblib  # both take a while
    import psutil

    idle = 1 - psutil.cpu_percent(interval=0.5) / 100
    return min(joblib.cpu_count(), idle * (os.cpu_count() or 1))
