from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from b2inst.evaluation import EvaluationError
from b2inst.evaluation.results import read_results

from .conftest import random_pair


def test_coco_results_are_read_also_without_boxes(tmp_path: Path) -> None:
    _, predictions = random_pair(0, images=3)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(predictions))
    assert read_results(path) == predictions
    bare = [{k: v for k, v in p.items() if k != "bbox"} for p in predictions]
    path.write_text(json.dumps(bare))
    assert read_results(path) == predictions  # the fixture's boxes are those of the masks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": []}, "not COCO results; give a JSON list"),
        ([{"image_id": 1, "category_id": 2, "score": 0.5, "bbox": [0, 0, 1, 1]}], "detection 0"),
        ([{"image_id": 1, "category_id": 2, "score": 0.5, "segmentation": [[1, 2]]}], "run-length"),
        ([7], "detection 0: not a detection"),
    ],
)
def test_what_is_no_result_file_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=message) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.json: cannot be read"):
        read_results(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text("[{")
    with pytest.raises(EvaluationError, match=r"cut\.json: cannot be read"):
        read_results(tmp_path / "cut.json")
    with pytest.raises(EvaluationError, match="no such prediction file"):
        read_results(tmp_path / "none.jsonl.gz")
