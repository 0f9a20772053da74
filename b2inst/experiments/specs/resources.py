"""How a machine is used. No part of what a run is, and of no influence on its numbers but rounding.

Sums over another number of ``threads`` round differently.
Profiles that are made for CPUs therefore fix them.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt

from b2inst.experiments.specs.yaml_spec import Spec


class Resources(Spec):
    """Processes, threads and batches."""

    jobs: PositiveInt = 1  #: runs at a time
    threads: PositiveInt | None = None  #: CPU threads of a run; None: PyTorch's choice
    devices: PositiveInt = 1  #: of a run on each machine, with a process each: GPUs, or CPU cores
    machines: PositiveInt = 1  #: of a run; several only as jobs of a cluster
    workers: NonNegativeInt = 0  #: processes that load training data, for each run
    batch: PositiveInt = 1  #: images predicted together
    device: str = "auto"  #: "auto", "cpu", "cuda"
    recompute: bool = False  #: in training, keep fewer activations and compute them again
    #: Options of sbatch by their long names, as in ``{partition: gpu, time: "24:00:00"}``; true for
    #: those without a value.
    slurm: dict[str, str | int | bool] = Field(default_factory=dict)
