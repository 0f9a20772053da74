"""Procedural scenes: a data set that needs no download, easy to recognise, hard at the boundary.

docs/data.md describes them. What is drawn depends on the seed alone.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data.files import disk_errors
from b2inst.data.images import Bytes
from b2inst.data.segmentation import measured
from b2inst.data.shapes import SHAPE_CLASSES, Points, Rng, between, coverage, polar
from b2inst.data.wording import DataError

#: Name of the generator; any change of what it draws changes it.
SCENES_VERSION = "scenes-v1"
#: Class names in label order.
SCENE_CLASSES = tuple(kind.name for kind in SHAPE_CLASSES)

_RADIUS = (0.16, 0.33)  # of the side
_NEAR = 0.7  # new objects placed beside one that is there
_SAME_CLASS = 0.5  # of those: same class as the neighbour
_SAME_COLOUR = 0.7  # of those: nearly its colour
_LEAST_VISIBLE = 0.45  # of an object's own pixels
_LEAST_AREA = 0.006  # of the image
_TRIES = 30
_MARGIN = 3  # pixels around the unit disc in a tile, for parts that stick out
_NAME = "{:06d}.png"  # of the image files


class Scene(NamedTuple):
    """One image with its instances, in the order they were painted (later ones on top)."""

    image: Bytes  #: H×W×3 RGB
    masks: NDArray[np.bool_]  #: N×H×W, the visible pixels; no pixel belongs to two
    labels: NDArray[np.int64]  #: N, index into ``SCENE_CLASSES``


class _Body(NamedTuple):
    """What the objects placed later need to know of this one."""

    centre: Points  #: x y
    radius: float
    label: int
    hsv: tuple[float, float, float]
    pixels: int = 0  # before occlusion


def make_scene(seed: int | Sequence[int], size: int = 96) -> Scene:
    """Draw one scene.

    Args:
        seed: Anything ``numpy.random.SeedSequence`` takes; equal seeds give equal arrays.
        size: Side of the square image in pixels, at least 32; everything but the grain of the
            noise scales with it.
    """
    if size < 32:
        raise ValueError(f"scene size is {size}; outlines need at least 32 pixels")
    rng = np.random.Generator(np.random.PCG64(seed))
    ground = _rgb((rng.random(), 0.16 * rng.random(), 0.3 + 0.5 * rng.random()))  # greyish
    texture = _relief(rng, size, size * (0.04 + 0.12 * rng.random()))
    texture = texture * int(20 + 50 * rng.random()) // 128
    canvas = np.clip(texture[:, :, None] + ground, 0, 255).astype(np.uint8)
    owner = np.zeros((size, size), dtype=np.uint8)  # 0 background, else 1 + index of the body
    bodies: list[_Body] = []
    wanted = int(rng.integers(2, 5))
    for _ in range(_TRIES):
        if len(bodies) == wanted:
            break
        body = _place(rng, size, bodies)
        alpha, window = _draw_alpha(rng, body, size)
        inside = alpha >= 128
        body = body._replace(pixels=int(inside.sum()))
        kinds = len(bodies) + 1
        covered = np.bincount(owner[window][inside], minlength=kinds)
        visible = (np.bincount(owner.ravel(), minlength=kinds) - covered)[1:]
        if body.pixels < _LEAST_AREA * size * size or any(
            seen < max(_LEAST_AREA * owner.size, _LEAST_VISIBLE * other.pixels)
            for seen, other in zip(visible, bodies, strict=True)
        ):
            continue
        bodies.append(body)
        owner[window][inside] = len(bodies)
        _paint(rng, canvas[window], alpha, body, size)
    masks = owner[None] == np.arange(1, len(bodies) + 1, dtype=np.uint8)[:, None, None]
    labels = np.array([body.label for body in bodies], dtype=np.int64)
    return Scene(_photograph(rng, canvas), masks, labels)


def write_scenes(root: Path | str, *, split: str, images: int, size: int, seed: int) -> Path:
    """Write scenes as ``root/annotations/instances_<split>.json`` and ``root/<split>/*.png``.

    Scene i of a split has the seed ``(seed, i)``. A split is written completely or not at all, and
    reused if it has the same scenes.

    Args:
        root: Folder to write to.
        split: Name of the split.
        images: Number of scenes.
        size: Side of a scene in pixels, at least 32.
        seed: Seed of the split.

    Returns:
        The annotation file.

    Raises:
        DataError: There are other data under that name, or no space left.
    """
    root = Path(root)
    spec = {"version": SCENES_VERSION, "images": images, "size": size, "seed": seed}
    annotation_file, image_dir = root / "annotations" / f"instances_{split}.json", root / split
    if _is_there(annotation_file, image_dir, spec):
        return annotation_file
    with disk_errors(root):
        annotation_file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{split}-", dir=root) as aside:
            work = Path(aside)
            (work / "images").mkdir()
            content = _write_images(work / "images", spec)
            (work / "annotations.json").write_text(json.dumps(content))
            if not _is_there(annotation_file, image_dir, spec):  # another process may be faster
                if image_dir.exists():  # left by a call that was interrupted at this point
                    image_dir.rename(work / "old")
                (work / "images").rename(image_dir)
                (work / "annotations.json").replace(annotation_file)
    return annotation_file


def _is_there(annotation_file: Path, image_dir: Path, spec: dict[str, Any]) -> bool:
    """Whether exactly these scenes were written; DataError if something else was."""
    remedy = "choose another folder or split, or delete it"
    wanted = set(map(_NAME.format, range(spec["images"])))
    names = set(os.listdir(image_dir)) if image_dir.is_dir() else set()
    if not annotation_file.exists():
        if names - wanted:
            raise DataError(f"{image_dir}: contains other files than these scenes; {remedy}")
        return False
    try:
        found = json.loads(annotation_file.read_bytes())["info"]["scenes"]
    except (ValueError, KeyError, TypeError):
        found = "no scenes"
    if found != spec:
        raise DataError(f"{annotation_file}: contains {found}, not {spec}; {remedy}")
    return wanted <= names


def _write_images(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Write the PNG files; returns the content of the annotation file."""
    size = spec["size"]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    pixels = hashlib.sha256()
    for i in tqdm(range(spec["images"]), desc="scenes", disable=None):
        scene = make_scene((spec["seed"], i), size)
        pixels.update(scene.image.tobytes())
        # Noisy pixels hardly compress; uncompressed files are the same on every machine.
        _, png = cv2.imencode(".png", scene.image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
        (folder / _NAME.format(i)).write_bytes(png.tobytes())
        images.append({"id": i + 1, "file_name": _NAME.format(i), "height": size, "width": size})
        codes = coco_mask.encode(np.asfortranarray(scene.masks.transpose(1, 2, 0), np.uint8))
        for label, code in zip(scene.labels, codes, strict=True):
            ids = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": int(label) + 1}
            annotations.append(ids | measured(code))
    return {
        "info": {
            "description": "procedural scenes of b2inst, see docs/data.md",
            "scenes": spec,
            "pixels_sha256": pixels.hexdigest(),
        },
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(SCENE_CLASSES)],
    }


def _place(rng: Rng, size: int, bodies: list[_Body]) -> _Body:
    """Choose centre, radius, class and colour of the next object; ``pixels`` is not known yet."""
    radius = size * between(rng, *_RADIUS)
    label = int(rng.integers(len(SHAPE_CLASSES)))
    hsv = None
    margin = 0.7 * radius
    centre = margin + (size - 2 * margin) * rng.random(2)
    if bodies and rng.random() < _NEAR:
        neighbour = bodies[int(rng.integers(len(bodies)))]
        distance = (neighbour.radius + radius) * (0.6 + 0.4 * rng.random())
        beside = neighbour.centre + polar(distance, 2 * np.pi * rng.random())
        centre = np.clip(beside, margin, size - margin)
        if rng.random() < _SAME_CLASS:
            label = neighbour.label
            if rng.random() < _SAME_COLOUR:
                jitter = np.array([0.01, 0.12, 0.16]) * (rng.random(3) - 0.5)
                hue, saturation, value = (neighbour.hsv + jitter).tolist()
                hsv = hue % 1, min(max(saturation, 0.5), 1.0), min(max(value, 0.5), 1.0)
    if hsv is None:
        hue = SHAPE_CLASSES[label].hue + 10 * (rng.random() - 0.5)
        hsv = hue / 360 % 1, 0.55 + 0.4 * rng.random(), 0.55 + 0.45 * rng.random()
    return _Body(centre, radius, label, hsv)


def _draw_alpha(rng: Rng, body: _Body, size: int) -> tuple[Bytes, tuple[slice, slice]]:
    """Coverage of the object in the part of the image it touches, and where that part is."""
    kind = SHAPE_CLASSES[body.label]
    angle = kind.tilt * (2 * rng.random() - 1)
    stretch = 1 - 0.25 * rng.random()
    mirror = -1.0 if rng.random() < 0.5 and kind.name != "letter" else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = body.radius * turn @ np.diag([mirror * stretch, 1.0])
    reach = int(1.2 * body.radius) + _MARGIN
    corner = np.floor(body.centre).astype(int) - reach
    transform = np.column_stack([linear, body.centre - corner])
    alpha = coverage(kind.draw(rng), transform, 2 * reach + 1)
    x, y = corner
    left, top = np.maximum(corner, 0)
    right, bottom = np.minimum(corner + 2 * reach + 1, size)
    window = (slice(top, bottom), slice(left, right))
    return alpha[top - y : bottom - y, left - x : right - x], window


def _paint(rng: Rng, window: Bytes, alpha: Bytes, body: _Body, size: int) -> None:
    """Blend the shaded object into a window of the canvas."""
    height, width = alpha.shape
    side = max(height, width)
    shade = _relief(rng, side, size * (0.03 + 0.08 * rng.random()))[:height, :width]
    depth = int(10 + 45 * rng.random())
    light = (256 + shade.astype(np.int32) * depth // 128)[:, :, None]
    fore = np.minimum(_rgb(body.hsv) * light // 256, 255)
    weight = alpha.astype(np.int32)[:, :, None]
    window[:] = (window * (255 - weight) + fore * weight + 127) // 255


def _photograph(rng: Rng, canvas: Bytes) -> Bytes:
    """Blur, sensor noise and, in most scenes, up to 2 % salt and pepper."""
    size = canvas.shape[0]
    sigma = size / 96 * (0.3 + 0.6 * rng.random())
    reach = int(2.5 * sigma + 0.5)
    kernel = (2 * reach + 1, 2 * reach + 1)
    # "accurate" is the fixed-point filter, the same on every processor
    image = cv2.GaussianBlur(canvas, kernel, sigma, hint=cv2.ALGO_HINT_ACCURATE)
    deviation = 2 + 8 * rng.random()
    # The sum of four bytes is nearly normal, and exact; its deviation is sqrt(4 · (256² - 1) / 12).
    noise = rng.integers(0, 256, (4, *canvas.shape), dtype=np.uint8).sum(axis=0, dtype=np.int32)
    noise = ((noise - 510) * int(deviation * 256) // (148 * 256)).astype(np.int16)
    result = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        n = int(0.02 * rng.random() * size * size)
        where = rng.integers(0, size * size, n)
        result.reshape(-1, 3)[where] = (rng.integers(0, 2, (n, 1)) * 255).astype(np.uint8)
    return result


def _relief(rng: Rng, size: int, grain: float) -> NDArray[np.int16]:
    """A random texture of -128 to 127, whose finer structures are ``grain`` pixels long."""
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
    start = (side - size) // 2
    return smooth[start : start + size, start : start + size].astype(np.int16) - 128


def _rgb(hsv: tuple[float, float, float]) -> NDArray[np.int32]:
    return (255 * np.array(colorsys.hsv_to_rgb(*hsv)) + 0.5).astype(np.int32)
