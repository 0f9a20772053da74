"""How a machine is used, which decides no number except by rounding.

Sums over another number of ``threads`` round differently; profiles for CPUs therefore fix them.
"""

from __future__ import annotations

import os
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt

from b2inst.experiments.specs.yaml_spec import Spec
from b2inst.training.loggers import LoggerName


class Resources(Spec):
    """Processes, threads and batches."""

    jobs: PositiveInt = 1  #: runs at a time
    threads: PositiveInt | None = None  #: CPU threads of each process of a run; None: ``settled``
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
        """Return a copy with a number of threads: as given, OMP_NUM_THREADS, or a share of cores.

        Each device of each run gets an equal share of the cores that this process may use, less
        one for each process that loads data.
        """
        if self.threads is not None:
            return self
        variable = os.environ.get("OMP_NUM_THREADS", "")
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        share = cores // (self.jobs * self.devices) - self.workers
        threads = int(variable) if variable.isdecimal() else share
        return self.model_copy(update={"threads": max(threads, 1)})
