"""Drawing shapes and textures with integer arithmetic, so that every machine draws the same."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from b2inst.data.shapes import Points, Polygon, Rng, Shape

Bytes = NDArray[np.uint8]

_SUPERSAMPLING = 4  # coverage is counted on a grid this many times finer
_SHIFT = 4  # fractional bits of the drawing coordinates


def coverage(shape: Shape, transform: Points, size: int) -> Bytes:
    """How much of each pixel a shape covers: size×size, 0 (outside) to 255 (inside).

    Args:
        shape: parts in the shape's own frame.
        transform: 2×3, maps that frame to pixels of the square tile (pixel centres at + 0.5).
        size: side of the tile; what falls outside is cut off.
    """
    fine = np.zeros((size * _SUPERSAMPLING, size * _SUPERSAMPLING), dtype=np.uint8)
    scale = np.sqrt(abs(np.linalg.det(transform[:, :2])))

    def to_grid(points: Points) -> NDArray[np.int32]:
        pixels = points @ transform[:, :2].T + transform[:, 2]
        grid = (pixels * _SUPERSAMPLING - 0.5) * (1 << _SHIFT)
        return np.rint(grid).astype(np.int32)

    for part in shape:
        if isinstance(part, Polygon):
            contours = [to_grid(contour) for contour in part.contours]
            cv2.fillPoly(fine, contours, 255, cv2.LINE_8, _SHIFT)
        else:
            width = max(int(part.width * scale * _SUPERSAMPLING + 0.5), 1)
            line = to_grid(part.points)
            cv2.polylines(fine, [line], False, 255, width, cv2.LINE_8, _SHIFT)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def relief(rng: Rng, size: int, grain: float) -> NDArray[np.int16]:
    """A random grey texture, size×size, about -128 to 127: a slope, stripes, chequers or clouds.

    Args:
        grain: length in pixels of its finer structures.
    """
    kind = rng.random()
    cell = max(grain * (0.6 + rng.random()), 1.5)
    if kind < 0.6:  # clouds: two octaves of smooth noise
        return _clouds(rng, size, 3 * cell) // 2 + _clouds(rng, size, cell) // 2
    angle = 2 * np.pi * rng.random()
    ys, xs = np.mgrid[:size, :size]
    along = np.cos(angle) * xs + np.sin(angle) * ys
    if kind < 0.7:
        wave = 2 * along / size - np.cos(angle) - np.sin(angle)
    elif kind < 0.87:
        wave = np.sin(np.pi / cell * along)
    else:
        across = np.cos(angle) * ys - np.sin(angle) * xs
        wave = np.sin(np.pi / cell * along) * np.sin(np.pi / cell * across)
        wave = np.clip(4 * wave, -1, 1)
    return np.rint(np.clip(wave, -1, 1) * 120).astype(np.int16)


def _clouds(rng: Rng, size: int, cell: float) -> NDArray[np.int16]:
    n = max(int(size / cell + 0.5), 1) + 2
    knots = rng.integers(0, 256, (n, n), dtype=np.uint8)
    side = max(int(n * cell + 0.5), size)
    smooth = cv2.resize(knots, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    top, left = (side - size) // 2, (side - size) // 2
    return smooth[top : top + size, left : left + size].astype(np.int16) - 128


def gaussian_noise(rng: Rng, shape: tuple[int, ...], sd: float) -> NDArray[np.int16]:
    """Noise of the given standard deviation: the sum of four bytes, nearly normal and exact."""
    bytes_ = rng.integers(0, 256, (4, *shape), dtype=np.uint8)
    total = bytes_.sum(axis=0, dtype=np.int32) - 510  # sd of the sum: sqrt(4 · (256² - 1) / 12)
    return (total * int(sd * 256) // (148 * 256)).astype(np.int16)
