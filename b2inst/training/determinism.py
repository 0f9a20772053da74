"""Deterministic sums, so that resuming a training does not change the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms on a CPU.

    Otherwise the gradient of indexing is summed in the order in which threads finish. On a GPU
    nothing is changed, since the gradient of RoIAlign has no deterministic implementation there.
    """
    debugging: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode()
    fill = debugging.fill_uninitialized_memory
    if device.type == "cpu":
        torch.set_deterministic_debug_mode("warn")
        debugging.fill_uninitialized_memory = False  # only for debugging, and slow
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        debugging.fill_uninitialized_memory = fill
