"""What the processes of a run, one for each device, tell each other; alone, one has it all.

A loss that is a sum over what is on a device is divided by ``even_share`` of the number of things
summed, or as a mean over them multiplied by ``mean_weight``. Averaging gradients over the devices,
as data-parallel training does, then gives the gradient of the whole batch, however unevenly its
objects are spread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def process_count() -> int:
    """How many processes have joined; 1 where none has."""
    return dist.get_world_size() if _joined() else 1


def process_rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if _joined() else 0


def sum_over_devices(value: Tensor) -> Tensor:
    """Sum of a detached tensor over all processes."""
    if not _joined():
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def mean_over_devices(value: Tensor) -> Tensor:
    """Mean of a detached tensor over all processes."""
    return sum_over_devices(value) / process_count()


def on_any_device(flag: bool, device: torch.device) -> bool:
    """Whether it is set in any process; all wait for each other, and one alone for nothing."""
    return (
        flag if not _joined() else bool(sum_over_devices(torch.tensor(flag, device=device).int()))
    )


def even_share(count: Tensor, *, least: float = 1.0) -> Tensor:
    """A device's share of a count over all devices, if all had the same.

    Args:
        count: on this device; a scalar.
        least: what the count over all devices is taken for when it is smaller.
    """
    return sum_over_devices(count.float()).clamp(min=least) / process_count()


def mean_weight(count: Tensor) -> Tensor:
    """What a mean over ``count`` things here counts in the mean over all devices.

    1, but where devices have different numbers; 0 where there is nothing.
    """
    return count / even_share(count)


def from_first(compute: Callable[[], Value]) -> Value:
    """What the first process computes; the others wait for it. Its error is raised in all."""
    if not _joined():
        return compute()
    outcome: list[Any] = [None, None]
    if process_rank() == 0:
        try:
            outcome[0] = compute()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    value, failure = outcome
    if failure is not None:
        raise failure
    return value


def gathered(value: Value) -> list[Value]:
    """In the first process the values of all, in the order of their ranks; none in the others."""
    if not _joined():
        return [value]
    values: list[Any] | None = [None] * process_count() if process_rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
