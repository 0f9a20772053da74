"""Other values than the published ones, which a comparison must notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all numbers, lists of numbers and words, as comparisons call them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for k, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{k}]")
    else:
        yield path


def other(value: Any) -> Any:
    """The same structure with every value changed."""
    if isinstance(value, dict):
        return {key: other(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [other(inner) for inner in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "0"
    return value + 1 if isinstance(value, int) and value < 20 else value * 1.2 + 0.001


def changed_arrays(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One value of each array changed, by about twice its tolerance."""
    changed = {}
    for name, values in arrays.items():
        step: Any = 1
        if values.dtype.kind == "f":
            absolute = {"boxes": 2e-2, "scores": 2e-4, "f16": 2e-3}.get(name.split("_")[-1])
            step = absolute or 6e-4 * np.abs(values).max()
        shifted = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
        shifted.flat[np.random.default_rng(0).integers(values.size)] += step
        changed[name] = shifted.astype(np.float32) if values.dtype.kind == "f" else shifted
    return changed
