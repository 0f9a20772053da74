"""One published value against ours: how far apart, and how far they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """How far a published value is from ours."""

    name: str  #: of the published value
    shape: tuple[int, ...]  #: of the published value
    error: float  #: largest; NaN where it cannot be told, which does not pass
    tolerance: float
    unit: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


#: Name and published value to the comparison with ours.
Check = Callable[[str, Any], Comparison]


def dense(ours: Any, tolerance: float) -> Check:
    """Relative error: the largest difference over the largest published magnitude."""
    return _numeric(ours, tolerance, "relative", lambda a, b: _ratio(_largest(a - b), _largest(b)))


def within(ours: Any, tolerance: float, unit: str) -> Check:
    """Absolute error in a unit."""
    return _numeric(ours, tolerance, unit, lambda a, b: _largest(a - b))


def exact(ours: Any) -> Check:
    """No value may differ; the error is how many do. For arrays, lists, numbers and words."""

    def check(name: str, published: Any) -> Comparison:
        own, theirs = np.asarray(ours), np.asarray(published)
        if own.shape != theirs.shape:
            return _misshaped(name, own.shape, theirs.shape)
        different = int(np.count_nonzero(np.asarray(own != theirs)))
        return Comparison(name, theirs.shape, different, 0, "different")

    return check


def each(ours: Mapping[str, float], tolerance: float) -> Check:
    """Relative error of numbers by name; the worst is named."""

    def check(name: str, published: Any) -> Comparison:
        if not isinstance(published, Mapping) or published.keys() != ours.keys():
            theirs = set(published) if isinstance(published, Mapping) else set()
            odd = ", ".join(sorted(theirs ^ ours.keys())) or "no names"
            return failed(name, f"not the same names: {odd}")
        single = [dense(value, tolerance)(key, published[key]) for key, value in ours.items()]
        if not single:
            return Comparison(name, (0,), 0, tolerance, "relative")
        found = worst(single)
        return replace(found, name=name, shape=(len(ours),), note=f"worst: {found.name}")

    return check


def described(name: str, published: Any) -> Comparison:
    """A value that describes and cannot be computed; it is listed and left at that."""
    return Comparison(name, np.shape(published), 0, math.inf, note="a description, not compared")


def worst(comparisons: Iterable[Comparison]) -> Comparison:
    """The one that is furthest off; one that fails before any that passes."""
    return max(comparisons, key=lambda c: (not c.passed, c.error))


def compare(published: Mapping[str, Any], checks: Mapping[str, Check]) -> list[Comparison]:
    """Compare everything: a value without a check fails, and so does a check without a value.

    Args:
        published: by name; mappings and lists within are entered where ``checks`` has names such
            as ``losses.mask`` or ``images[0].size``.
    """
    found = {
        name: checks[name](name, value)
        if name in checks
        else failed(name, "no comparison is known", np.shape(value))
        for name, value in _entered(published, checks)
    }
    missing = [failed(name, "missing among the fixtures") for name in checks if name not in found]
    return [*found.values(), *missing]


def failed(name: str, why: str, shape: tuple[int, ...] = ()) -> Comparison:
    """A published value that cannot be compared, and so fails."""
    return Comparison(name, shape, math.nan, 0, note=why)


def _numeric(
    ours: Any, tolerance: float, unit: str, error: Callable[[NDArray[Any], NDArray[Any]], float]
) -> Check:
    def check(name: str, published: Any) -> Comparison:
        own, theirs = np.asarray(ours), np.asarray(published)
        if theirs.dtype.kind not in "fiub":
            return failed(name, f"{published!r:.40} is no number", theirs.shape)
        if own.shape != theirs.shape:
            return _misshaped(name, own.shape, theirs.shape)
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            value = error(own.astype(np.float64), theirs.astype(np.float64))
        return Comparison(name, theirs.shape, value, tolerance, unit)

    return check


def _entered(
    published: Mapping[str, Any], checks: Mapping[str, Check], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in published.items():
        name = f"{prefix}{key}"
        inner: dict[str, Any] = {}
        if isinstance(value, dict):
            inner = {f".{k}": v for k, v in value.items()}
        elif isinstance(value, list):
            inner = {f"[{k}]": v for k, v in enumerate(value)}
        known = any(check.startswith((f"{name}.", f"{name}[")) for check in checks)
        if known and inner and name not in checks:
            yield from _entered(inner, checks, name)
        else:
            yield name, value


def _misshaped(name: str, own: tuple[int, ...], theirs: tuple[int, ...]) -> Comparison:
    return failed(name, f"ours is {shape_text(own)}", theirs)


def shape_text(shape: tuple[int, ...]) -> str:
    """``2×3×4``; a dash for a single number."""
    return "×".join(map(str, shape)) or "–"


def _largest(values: NDArray[Any]) -> float:
    return float(np.abs(values).max(initial=0))


def _ratio(difference: float, magnitude: float) -> float:
    return 0.0 if difference == 0 else difference / magnitude if magnitude else math.inf
