"""How a machine is used. No part of what a run is, and of no influence on its numbers but rounding.

Sums over another number of ``threads``, and convolutions with ``channels_last``, round differently.
Profiles that are made for CPUs therefore fix them.
"""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from b2inst.experiments.yaml_spec import Spec


class Resources(Spec):
    """Processes, threads and batches."""

    jobs: PositiveInt = 1  #: runs at a time
    threads: PositiveInt | None = None  #: CPU threads of a run; None: PyTorch's choice
    devices: PositiveInt = 1  #: GPUs of a run (processes, on a CPU); more than one by torchrun
    workers: NonNegativeInt = 0  #: processes that load training data, for each run
    batch: PositiveInt = 1  #: images predicted together
    device: str = "auto"  #: "auto", "cpu", "cuda"
    channels_last: bool = False  #: channels innermost in memory, which is quicker
    recompute: bool = False  #: in training, keep fewer activations and compute them again
