"""Images, masks and results in COCO's formats, for the scripts that run in a peer's environment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

#: Detections an image that the prediction files have at most, the surest ones.
MAX_DETECTIONS = 500

Array = np.ndarray


def read_split(data: Path, split: str) -> Iterator[tuple[int, Path, Array, list[Array]]]:
    """Id, file, RGB image (H×W×3) and masks (H×W, bool) of each image of a split.

    Args:
        data: folder that ``b2inst data nuclei`` writes.
        split: train, val or test.
    """
    content = json.loads((data / f"annotations/instances_{split}.json").read_text())
    codes: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        codes[annotation["image_id"]].append(annotation["segmentation"])
    for record in content["images"]:
        path = data / split / record["file_name"]
        masks = [coco_mask.decode(code).astype(bool) for code in codes[record["id"]]]
        yield record["id"], path, np.asarray(Image.open(path).convert("RGB")), masks


def to_labels(masks: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Label image (H×W, int32; 0 is background); where masks overlap, the smaller is seen."""
    labels = np.zeros(shape, np.int32)
    for number, mask in enumerate(sorted(masks, key=np.sum, reverse=True), start=1):
        labels[mask] = number
    return labels


def to_results(image_id: int, masks: Iterable[Array], scores: Sequence[float]) -> list[Any]:
    """COCO results of one image: the first ``MAX_DETECTIONS`` masks that are not empty.

    Args:
        image_id: COCO's id of the image.
        masks: H×W, bool, the surest first; one is held at a time.
        scores: one for each mask.
    """
    seen = ((mask, score) for mask, score in zip(masks, scores, strict=True) if mask.any())
    results = []
    for mask, score in islice(seen, MAX_DETECTIONS):
        code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        results.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "score": float(score),
                "bbox": coco_mask.toBbox(code).tolist(),
                "segmentation": code | {"counts": code["counts"].decode()},
            }
        )
    return results


def write_json(path: Path, content: Any) -> None:
    """Write a file that is whole or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(path)
