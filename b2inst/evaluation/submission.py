"""Result files for COCO's evaluation server, for images whose annotations are not public."""

from __future__ import annotations

import json
from pathlib import Path

from b2inst.data import CocoIndex, verify_images
from b2inst.data.files import replacing
from b2inst.evaluation.predictions import iterate_predictions

#: Fields the server reads. Not the box: if given, APs, APm and APl would go by its area instead of
#: the mask's.
_KEYS = ("image_id", "category_id", "score", "segmentation")


def image_index(image_info: Path, images: Path, *, skip_bad: bool = False) -> CocoIndex:
    """Load the images of a file such as ``image_info_test-dev2017.json``, without annotations.

    With ``skip_bad``, images that are missing or cannot be read are left out.
    """
    index = CocoIndex.load(image_info, images, annotated=False, skip_bad=skip_bad)
    return verify_images(index, skip_bad=True) if skip_bad else index


def submission_path(image_info: Path, out: Path, *, name: str) -> Path:
    """Return ``out/detections_<split>_<name>_results.json``, the name the server expects."""
    split = image_info.stem.removeprefix("image_info_").removeprefix("instances_")
    return out / f"detections_{split}_{name}_results.json"


def write_submission(predictions: Path, image_info: Path, out: Path, *, name: str) -> Path:
    """Write a prediction file as the server takes it, if zipped; returns ``submission_path``."""
    path = submission_path(image_info, out, name=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for i, record in enumerate(iterate_predictions(predictions)):
            file.write(",\n" if i else "[\n")
            json.dump({key: record[key] for key in _KEYS}, file, separators=(",", ":"))
        file.write("\n]\n" if file.tell() else "[]\n")
    return path
