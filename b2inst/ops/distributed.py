"""Averages over the devices of a run; the identity when there is only one."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def mean_over_devices(value: Tensor) -> Tensor:
    """Mean of a detached tensor over all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()
