from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _LargestFloat(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.elements = max(self.elements, result.numel())
        return result


@pytest.fixture
def largest_float() -> Callable[..., int]:
    """A function that calls another and returns the most elements any float tensor made had."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
        with _LargestFloat() as mode:
            function(*args, **kwargs)
        return mode.elements

    return call
