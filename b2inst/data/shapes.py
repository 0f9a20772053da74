"""Random outlines of the eight scene classes, and their rasterisation.

A shape is a list of parts whose union is the object, in a frame where the object about fills the
unit disc, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from b2inst.data.images import Bytes

Points = NDArray[np.float64]
Rng = np.random.Generator

_SUPERSAMPLING = 4  # coverage is counted on a grid this many times finer
_SHIFT = 4  # fractional bits of the drawing coordinates


class Part(NamedTuple):
    """A part of a shape."""

    lines: tuple[Points, ...]  #: each k×2, x y
    #: Of an open line with round ends and joins; 0: the lines are closed contours, filled by the
    #: even-odd rule, so that an inner one is a hole.
    width: float = 0.0


class ShapeClass(NamedTuple):
    """A class of the scenes: its colour range and how one is drawn."""

    name: str
    hue: int  #: degrees; the class is told by its hue, see docs/data.md
    tilt: float  #: largest rotation in radians
    draw: Callable[[Rng], list[Part]]


def between(rng: Rng, low: float, high: float) -> float:
    """Draw a number, by Python's arithmetic, which is the same on every machine."""
    return low + (high - low) * rng.random()


def polar(radius: Points | float, angle: Points | float) -> Points:
    """Points x y of polar coordinates: …×2."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _turn(n: int) -> Points:
    """N angles once round, the end left out."""
    return np.linspace(0, 2 * np.pi, n, endpoint=False)


def _star(rng: Rng) -> list[Part]:
    n = int(rng.integers(5, 10))
    radius = np.empty(2 * n)
    radius[0::2] = 0.85 + 0.3 * rng.random(n)
    radius[1::2] = between(rng, 0.38, 0.62)
    return [Part((polar(radius, _turn(2 * n)),))]


def _gear(rng: Rng) -> list[Part]:
    n = int(rng.integers(7, 13))
    root = between(rng, 0.68, 0.8)
    radius = np.tile([root, 1.0, 1.0, root], n)
    offset = np.tile([-0.27, -0.17, 0.17, 0.27], n) * (2 * np.pi / n)
    outline = polar(radius, np.repeat(_turn(n), 4) + offset)
    sides = 4 if rng.random() < 0.25 else 24
    hole = polar(between(rng, 0.22, 0.42), _turn(sides))
    return [Part((outline, hole))]


def _leaf(rng: Rng) -> list[Part]:
    teeth = int(rng.integers(4, 9))
    t = np.linspace(0, 1, 8 * teeth + 1)
    serration = 1 + between(rng, 0.12, 0.35) * (1 - (t * teeth) % 1 - 0.5)
    half_width = between(rng, 0.38, 0.6) * np.sin(np.pi * t**0.85) * serration
    bend = between(rng, -0.35, 0.35)
    spine = np.stack([1.75 * t - 0.75, bend * (1 - (2 * t - 1) ** 2)], axis=1)
    side = np.stack([np.zeros_like(t), half_width], axis=1)
    stem = np.stack([[-1.15, between(rng, -0.25, 0.25)], spine[0], spine[2]])
    return [Part((np.concatenate([spine + side, (spine - side)[::-1]]),)), Part((stem,), 0.1)]


def _crescent(rng: Rng) -> list[Part]:
    inner = between(rng, 0.6, 0.78)
    shift = 1 - inner + between(rng, 0.15, 0.35)
    # The circles x²+y²=1 and (x-shift)²+y²=inner² meet at x = cos(horn).
    x = (1 + shift**2 - inner**2) / (2 * shift)
    horn = np.arccos(x)
    inner_horn = np.arctan2(np.sin(horn), x - shift)
    outside = polar(1.0, np.linspace(horn, 2 * np.pi - horn, 40))
    inside = polar(inner, np.linspace(2 * np.pi - inner_horn, inner_horn, 32))
    outline = np.concatenate([outside, inside + np.array([shift, 0.0])])
    return [Part((outline + np.array([0.2, 0.0]),))]


# Strokes of capital letters on a grid of 2 × 2 units, y downwards.
_LETTERS: tuple[tuple[tuple[tuple[float, float], ...], ...], ...] = (
    (((-0.7, 1), (0, -1), (0.7, 1)), ((-0.4, 0.3), (0.4, 0.3))),  # A
    (((0.6, -1), (-0.6, -1), (-0.6, 1), (0.6, 1)), ((-0.6, 0), (0.4, 0))),  # E
    (((0.6, -1), (-0.6, -1), (-0.6, 1)), ((-0.6, 0), (0.4, 0))),  # F
    (((-0.6, -1), (-0.6, 1)), ((0.6, -1), (0.6, 1)), ((-0.6, 0), (0.6, 0))),  # H
    (((-0.6, -1), (-0.6, 1)), ((0.6, -1), (-0.6, 0.1), (0.6, 1))),  # K
    (((-0.8, 1), (-0.8, -1), (0, 0.4), (0.8, -1), (0.8, 1)),),  # M
    (((-0.6, 1), (-0.6, -1), (0.6, 1), (0.6, -1)),),  # N
    (((-0.6, 1), (-0.6, -1), (0.4, -1), (0.6, -0.5), (0.4, 0), (-0.6, 0), (0.6, 1)),),  # R
    (((0.6, -0.8), (0, -1), (-0.6, -0.6), (0.6, 0.5), (0, 1), (-0.6, 0.8)),),  # S
    (((-0.8, -1), (0.8, -1)), ((0, -1), (0, 1))),  # T
    (((-0.8, -1), (-0.45, 1), (0, -0.3), (0.45, 1), (0.8, -1)),),  # W
    (((-0.6, -1), (0.6, 1)), ((0.6, -1), (-0.6, 1))),  # X
    (((-0.7, -1), (0, 0), (0.7, -1)), ((0, 0), (0, 1))),  # Y
    (((-0.6, -1), (0.6, -1), (-0.6, 1), (0.6, 1)),),  # Z
)


def _letter(rng: Rng) -> list[Part]:
    strokes = _LETTERS[int(rng.integers(len(_LETTERS)))]
    width, shear = between(rng, 0.42, 0.56), between(rng, -0.25, 0.25)
    italic = np.array([[1.0, 0.0], [shear, 1.0]])
    return [Part((0.82 * np.array(points) @ italic,), width) for points in strokes]


def _figure(rng: Rng) -> list[Part]:
    hip, neck = np.array([0.0, 0.18]), np.array([between(rng, -0.12, 0.12), -0.42])
    head = neck + np.array([0.0, -0.3]) + polar(0.29, _turn(20))
    parts = [Part((head,)), Part((np.stack([neck, hip]),), 0.46)]
    for side in (-1, 1):
        shoulder = between(rng, -0.7, 0.9)
        elbow = neck + polar(0.46, np.pi / 2 - side * (np.pi / 2 - shoulder))
        bend = shoulder + between(rng, -1.2, 1.2)
        hand = elbow + polar(0.42, np.pi / 2 - side * (np.pi / 2 - bend))
        parts.append(Part((np.stack([neck, elbow, hand]),), 0.25))
        thigh = np.pi / 2 - side * between(rng, 0.1, 0.75)
        knee = hip + polar(0.48, thigh)
        foot = knee + polar(0.46, thigh + between(rng, -0.5, 0.5))
        parts.append(Part((np.stack([hip, knee, foot]),), 0.29))
    return parts


def _blob(rng: Rng) -> list[Part]:
    angle = _turn(72)
    radius = np.full(72, 0.8)
    for k in range(2, 8):
        radius += between(rng, 0.0, 0.42) / k * np.cos(k * angle + between(rng, 0, 2 * np.pi))
    return [Part((polar(radius, angle),))]


def _ring(rng: Rng) -> list[Part]:
    petals, depth = int(rng.integers(6, 12)), between(rng, 0.05, 0.14)
    gap = between(rng, 0.4, 0.9) if rng.random() < 0.4 else 0.0
    inner = between(rng, 0.45, 0.62)
    angle = gap / 2 + np.linspace(0, 2 * np.pi - gap, 97)
    outside = polar(0.95 - depth * (1 - np.abs(np.cos(petals * angle / 2))), angle)
    inside = polar(inner, angle)
    if gap:
        return [Part((np.concatenate([outside, inside[::-1]]),))]
    return [Part((outside[:-1], inside[:-1]))]


#: The classes in label order. Hues are at least 25° apart and jittered by far less.
SHAPE_CLASSES: tuple[ShapeClass, ...] = (
    ShapeClass("star", 58, np.pi, _star),
    ShapeClass("gear", 215, np.pi, _gear),
    ShapeClass("leaf", 115, np.pi, _leaf),
    ShapeClass("crescent", 265, np.pi, _crescent),
    ShapeClass("letter", 354, 0.5, _letter),
    ShapeClass("figure", 30, 0.5, _figure),
    ShapeClass("blob", 170, np.pi, _blob),
    ShapeClass("ring", 310, np.pi, _ring),
)


def coverage(shape: list[Part], transform: Points, size: int) -> Bytes:
    """How much of each pixel of a tile a shape covers: size×size, 0 to 255.

    The 2×3 transform maps the shape's frame to pixels of the tile (pixel centres at + 0.5).
    """
    fine = np.zeros((size * _SUPERSAMPLING, size * _SUPERSAMPLING), dtype=np.uint8)
    scale = np.sqrt(abs(np.linalg.det(transform[:, :2])))
    for part in shape:
        pixels = [points @ transform[:, :2].T + transform[:, 2] for points in part.lines]
        grid = [
            np.rint((line * _SUPERSAMPLING - 0.5) * (1 << _SHIFT)).astype(np.int32)
            for line in pixels
        ]
        if part.width:
            width = max(int(part.width * scale * _SUPERSAMPLING + 0.5), 1)
            cv2.polylines(fine, grid, False, 255, width, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(fine, grid, 255, cv2.LINE_8, _SHIFT)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
