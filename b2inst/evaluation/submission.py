"""The file that COCO's evaluation server takes, for images whose annotations are kept back."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from b2inst.data import CocoIndex, DataError
from b2inst.evaluation.predictions import to_coco_json

#: What the server reads of a detection. Not its box: with one, the size of an object that decides
#: on APs, APm and APl would be taken from the box and not from the mask.
_KEYS = ("image_id", "category_id", "score", "segmentation")


def image_index(image_info: Path, images: Path) -> CocoIndex:
    """The images of an annotation file that may have no annotations.

    Args:
        image_info: such as ``image_info_test-dev2017.json``.
        images: their folder, such as ``test2017``.

    Raises:
        DataError: the file cannot be read, or something in it is wrong, or an image is missing.
    """
    try:
        content = json.loads(image_info.read_bytes())
    except OSError as error:
        raise DataError(f"{image_info}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{image_info}: not JSON ({error}); restore the file") from error
    if not isinstance(content, dict) or "annotations" in content:
        return CocoIndex.load(image_info, images)
    with tempfile.TemporaryDirectory() as folder:
        completed = Path(folder) / image_info.name
        completed.write_text(json.dumps(content | {"annotations": []}), encoding="utf-8")
        return CocoIndex.load(completed, images)


def submission_path(image_info: Path, out: Path, *, name: str) -> Path:
    """``detections_<split>_<name>_results.json`` in the folder ``out``, as the server wants it.

    Args:
        image_info: such as ``image_info_test-dev2017.json``.
        name: of the method, in letters, digits and dashes.
    """
    split = image_info.stem.removeprefix("image_info_").removeprefix("instances_")
    return out / f"detections_{split}_{name}_results.json"


def write_submission(predictions: Path, image_info: Path, out: Path, *, name: str) -> Path:
    """Write a prediction file as the list of segmentations that the server takes.

    Args:
        predictions: of the images of ``image_info``, written by ``write_predictions``.
        out: folder.
        name: of the method, in letters, digits and dashes.

    Returns:
        The file, :func:`submission_path`; the server wants it zipped.

    Raises:
        EvaluationError: a prediction file that cannot be read.
    """
    path = submission_path(image_info, out, name=name)
    to_coco_json(predictions, path, keys=_KEYS)
    return path
