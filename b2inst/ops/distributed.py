"""Communication of the processes of a run; without distributed training, of a single one.

A loss that is a sum is divided by ``even_share`` of the number of its terms; a loss that is a mean
is multiplied by ``mean_weight``. The mean gradient of the devices is then the whole batch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def process_count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _distributed() else 1


def process_rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if _distributed() else 0


def mean_over_devices(value: Tensor) -> Tensor:
    """Average a tensor over all processes, without gradient."""
    return _sum(value) / process_count()


def on_any_device(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is set in any process."""
    return bool(_sum(torch.tensor(int(flag), device=device))) if _distributed() else flag


def even_share(count: Tensor, *, least: float = 1.0) -> Tensor:
    """Average a scalar count over all devices; their sum is taken to be at least ``least``."""
    return _sum(count.float()).clamp(min=least) / process_count()


def mean_weight(count: Tensor) -> Tensor:
    """Return the weight of a mean over ``count`` terms in the mean over all devices."""
    return count / even_share(count)


def from_rank_zero(compute: Callable[[], Value]) -> Value:
    """Compute a value on rank 0 and broadcast it; an error is raised in all processes."""
    if not _distributed():
        return compute()
    outcome: list[Any] = [None, None]
    if process_rank() == 0:
        try:
            outcome[0] = compute()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def gathered(value: Value) -> list[Value]:
    """Gather the values of all processes on rank 0, in order of rank; elsewhere an empty list."""
    if not _distributed():
        return [value]
    values: list[Any] | None = [None] * process_count() if process_rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


def _sum(value: Tensor) -> Tensor:
    if _distributed():
        value = value.detach().clone()
        dist.all_reduce(value)
    return value


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
