"""Writing procedural scenes to disk as a COCO-format split."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data.errors import DataError
from b2inst.data.files import disk_errors
from b2inst.data.scenes import SCENE_CLASSES, SCENES_VERSION, make_scene
from b2inst.data.segmentation import measured


def write_scenes(
    root: Path | str, *, split: str, images: int, size: int, seed: int, progress: bool = False
) -> Path:
    """Write scenes as ``root/annotations/instances_<split>.json`` and ``root/<split>/*.png``.

    Scene i of a split has the seed ``(seed, i)``. A split is written completely or not at all, and
    reused if it has the same scenes.

    Args:
        root: Folder to write to.
        split: Name of the split.
        images: Number of scenes.
        size: Side of a scene in pixels, at least 32.
        seed: Seed of the split.
        progress: Whether to show a progress bar.

    Returns:
        The annotation file.

    Raises:
        DataError: There are other data under that name, or no space left.
    """
    if images < 1 or size < 32 or seed < 0:
        raise DataError(
            f"scenes: images={images}, size={size}, seed={seed}; "
            "needed are images >= 1, size >= 32, seed >= 0"
        )
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
            content = _write_images(work / "images", spec, progress)
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
    wanted = {_file_name(i) for i in range(spec["images"])}
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


def _file_name(i: int) -> str:
    return f"{i:06d}.png"


def _write_images(folder: Path, spec: dict[str, Any], progress: bool) -> dict[str, Any]:
    """Write the PNG files; returns the content of the annotation file."""
    size = spec["size"]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    pixels = hashlib.sha256()
    for i in tqdm(range(spec["images"]), desc="scenes", disable=not progress):
        scene = make_scene((spec["seed"], i), size)
        pixels.update(scene.image.tobytes())
        # Noisy pixels hardly compress; uncompressed files are the same on every machine.
        _, png = cv2.imencode(".png", scene.image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
        (folder / _file_name(i)).write_bytes(png.tobytes())
        images.append({"id": i + 1, "file_name": _file_name(i), "height": size, "width": size})
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
