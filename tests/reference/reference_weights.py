"""Deterministic random weights from a spec: no published weights are needed to compare numbers.

Every tensor has a generator of its own, ``numpy.random.default_rng(crc32(name) + seed)``; values
are drawn in float64 and rounded to float32.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.errors import VerificationError

_Values = NDArray[np.float64]


def make_weights(spec: Mapping[str, Any], seed: int, source: Path) -> dict[str, NDArray[Any]]:
    """Tensors by published name.

    Args:
        spec: by name ``{"shape": […], "kind": "conv", …}``; see ``KINDS`` for the other numbers.
        source: the spec's file, for messages.

    Raises:
        VerificationError: a tensor that the spec does not describe in this way.
    """
    weights = {}
    for name, entry in spec.items():
        try:
            weights[name] = _make(name, entry, seed)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise VerificationError(
                f"{source}: tensor '{name}': not a shape, a kind of {', '.join(KINDS)} and its "
                f"numbers ({error!r}); fetch the reference fixtures again"
            ) from error
    return weights


def checksum(weights: Mapping[str, NDArray[Any]]) -> str:
    """Eight hexadecimal digits (CRC-32) over names and bytes, in the order of the names."""
    crc = 0
    for name in sorted(weights):
        crc = zlib.crc32(
            np.ascontiguousarray(weights[name]).tobytes(), zlib.crc32(name.encode(), crc)
        )
    return f"{crc:08x}"


def _make(name: str, entry: Mapping[str, Any], seed: int) -> NDArray[Any]:
    shape = tuple(entry["shape"])
    kind = KINDS[entry["kind"]]
    if kind is None:
        return np.zeros(shape, np.int64)
    values = kind(np.random.default_rng(zlib.crc32(name.encode()) + seed), shape, entry)
    if "add_first" in entry:
        values[:: int(entry["period"])] += entry["add_first"]
    return values.astype(np.float32)


def _convolution(
    random: np.random.Generator, shape: tuple[int, ...], entry: Mapping[str, Any]
) -> _Values:
    gain = np.sqrt(2.0 / int(np.prod(shape[1:]))) * entry.get("gain", 1.0)
    values = random.standard_normal(shape) * gain
    if entry.get("center"):
        values -= values.reshape(shape[0], -1).mean(1).reshape(-1, *(1 for _ in shape[1:]))
    return values


def _around(mean: float, std: float) -> Callable[..., _Values]:
    def draw(
        random: np.random.Generator, shape: tuple[int, ...], entry: Mapping[str, Any]
    ) -> _Values:
        noise = entry.get("std", std) * random.standard_normal(shape)
        return np.asarray(entry.get("mean", mean) + noise)

    return draw


def _factor(
    random: np.random.Generator, shape: tuple[int, ...], entry: Mapping[str, Any]
) -> _Values:
    noise = entry.get("std", 0.1) * random.standard_normal(shape)
    return np.asarray(entry.get("mean", 1.0) * (1.0 + noise))


def _between(
    random: np.random.Generator, shape: tuple[int, ...], entry: Mapping[str, Any]
) -> _Values:
    return random.uniform(entry.get("low", 0.5), entry.get("high", 1.5), shape)


#: How the values of each kind of tensor are drawn; None: integer zeros (counters).
KINDS: dict[str, Callable[..., _Values] | None] = {
    "conv": _convolution,  # He's deviation times "gain"; "center": no mean over the fan-in
    "linear": _convolution,
    "bias": _around(0.0, 0.02),  # "mean", "std"
    "norm_weight": _factor,  # "mean" times 1 ± "std"
    "norm_bias": _around(0.0, 0.05),
    "running_mean": _around(0.0, 0.05),
    "running_var": _between,  # "low" to "high"
    "zeros_i64": None,
}
