"""From image files to annotated pictures and one COCO-format file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data import DataError, read_image
from b2inst.data.images import as_array
from b2inst.evaluation import to_records
from b2inst.models import ImageSegmenter
from b2inst.viz.draw import draw_instances

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The given files, and the image files that lie directly in the given folders, sorted.

    Raises:
        DataError: a folder has no image in it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.glob("*") if p.suffix.lower() in _SUFFIXES)
        if path.is_dir() and not inside:
            raise DataError(
                f"{path}: no image in this folder ({', '.join(sorted(_SUFFIXES))}); name the images"
            )
        found += inside if path.is_dir() else [path]
    return found


def predict_files(
    model: ImageSegmenter,
    images: Sequence[Path],
    out: Path,
    *,
    category_ids: Sequence[int] = (),
    score_threshold: float = 0.3,
    progress: bool = True,
) -> list[Path]:
    """Predict image files; write a picture of each, and ``predictions.json`` for all.

    The JSON is a COCO annotation file of its own: ``images`` with the files' names, ``categories``,
    and ``annotations`` with a ``score`` each (and ``class_score``, ``iou_score``,
    ``boundary_score``, where predicted), all detections whatever their score.

    Args:
        category_ids: COCO category id of each label (default: 1, 2, …).
        score_threshold: detections with a lower ranking score are not drawn.

    Returns:
        The pictures, in the order of the images.

    Raises:
        DataError: an image is missing or unreadable.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = model.class_names or tuple(str(i) for i in range(_num_classes(model)))
    ids = list(category_ids) or list(range(1, len(names) + 1))
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    }
    pictures: list[Path] = []
    for image_id, path in enumerate(
        tqdm(images, desc="predict", unit="image", disable=not progress), start=1
    ):
        array = as_array(read_image(path))
        (instances,) = model.predict([array])
        picture = _free_name(out / f"{path.stem}.png", pictures)
        drawn = draw_instances(array, instances, score_threshold=score_threshold)
        Image.fromarray(drawn).save(picture)
        pictures.append(picture)
        height, width = array.shape[:2]
        content["images"].append(
            {"id": image_id, "file_name": path.name, "height": height, "width": width}
        )
        for record in to_records(image_id, instances.to("cpu"), ids):
            area = int(coco_mask.area(record["segmentation"]))
            number = len(content["annotations"]) + 1
            content["annotations"].append({"id": number, **record, "area": area, "iscrowd": 0})
    (out / "predictions.json").write_text(json.dumps(content), encoding="utf-8")
    return pictures


def _num_classes(model: ImageSegmenter) -> int:
    return int(model.recipe["num_classes"])


def _free_name(path: Path, taken: Sequence[Path]) -> Path:
    """``path``, with a number where an image of the same name came before."""
    names = {other.name for other in taken}
    candidate, number = path, 1
    while candidate.name in names:
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
