from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from b2inst.evaluation import EvaluationError
from b2inst.evaluation.ground_truth import load_ground_truth

from .conftest import SIZE, annotation, dataset


def content(**changes: Any) -> dict[str, Any]:
    found = annotation(4, 10, 2, np.ones(SIZE, dtype=bool))
    return dataset([found | changes], images=1)


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content()))
    truth = load_ground_truth(file)
    assert sorted(truth.imgs) == [10]
    assert sorted(truth.cats) == [2, 3, 7]
    assert [a["area"] for a in truth.anns.values()] == [SIZE[0] * SIZE[1]]


def test_a_missing_crowd_flag_means_none() -> None:
    bare = content()
    del bare["annotations"][0]["iscrowd"]
    assert [a["iscrowd"] for a in load_ground_truth(bare).anns.values()] == [0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (content(image_id=3), ".*is for an unknown image, id 3"),
        (content(category_id=1), ".*unknown category, id 1"),
        (
            content(segmentation=[]),
            r"annotation 4 \(image 10\) has no polygon of at least 3 points",
        ),
        (content() | {"images": [], "annotations": []}, "has no images"),
        ({"images": []}, "has no list 'annotations'"),
        (content() | {"annotations": [{"id": 1}]}, "annotation 1 has no image_id"),
        (content() | {"images": [{"id": 1}]}, "image 1 has no height"),
        (content() | {"images": [None]}, "an entry of the image list is None"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(bad))
    with pytest.raises(EvaluationError, match=rf"instances\.json: {message}"):
        load_ground_truth(file)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "instances.json"
    file.write_text(text)
    with pytest.raises(EvaluationError, match=r"instances\.json: (not JSON|has no list)"):
        load_ground_truth(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"missing\.json: cannot be read"):
        load_ground_truth(tmp_path / "missing.json")
