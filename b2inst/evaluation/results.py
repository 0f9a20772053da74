"""Prediction files of any tool: ours, or COCO results as one JSON list."""

from __future__ import annotations

import json
from pathlib import Path

from pycocotools import mask as coco_mask

from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.predictions import Prediction, check_record, read_predictions


def read_results(path: str | Path) -> list[Prediction]:
    """All detections of ``….jsonl.gz`` (see ``predictions``) or of a COCO results ``….json``.

    COCO results may come without boxes; they get those of their masks.

    Raises:
        EvaluationError: the file is missing or is neither, or a detection lacks a field or has a
            NaN; names file and place.
    """
    path = Path(path)
    if path.suffix != ".json":
        return read_predictions(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(
            f"{path}: cannot be read as COCO results ({error}); give a JSON list of detections"
        ) from error
    if not isinstance(content, list):
        raise EvaluationError(f"{path}: not COCO results; give a JSON list of detections")
    for number, record in enumerate(content):
        if isinstance(record, dict) and "bbox" not in record:
            try:
                record["bbox"] = coco_mask.toBbox(record["segmentation"]).tolist()
            except (KeyError, TypeError, ValueError):
                record["bbox"] = None
        check_record(record, f"{path} detection {number}")
    return content
