from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from b2inst.evaluation import (
    EvaluationError,
    Prediction,
    read_predictions,
    save_predictions,
    to_records,
)
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.predictions import check_against
from b2inst.structures import Instances

from .conftest import SIZE, random_pair

CATEGORY_IDS = (2, 3, 7)


def instances(count: int = 3, *, seed: int = 0, scored: bool = True) -> Instances:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).mul(60).sort(dim=1).values
    return Instances(
        boxes=corners.reshape(count, 4),
        scores=torch.rand(count, generator=generator),
        class_scores=torch.rand(count, generator=generator),
        labels=torch.arange(count) % len(CATEGORY_IDS),
        masks=torch.rand(count, *SIZE, generator=generator) > 0.7,
        iou_scores=torch.rand(count, generator=generator) if scored else None,
    )


def write(path: Path, *images: Instances) -> Path:
    records = (to_records(i, image, CATEGORY_IDS) for i, image in enumerate(images))
    save_predictions(path, chain.from_iterable(records))
    return path


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    first, second = instances(3), instances(5, seed=1)
    records = read_predictions(write(tmp_path / "new" / "p.jsonl.gz", first, second))
    assert [r["image_id"] for r in records] == [0] * 3 + [1] * 5
    assert [r["category_id"] for r in records[3:]] == [2, 3, 7, 2, 3]
    for record, i in zip(records[3:], range(5), strict=True):
        assert np.float32(record["score"]) == second.scores[i].numpy()
        assert np.float32(record["class_score"]) == second.class_scores[i].numpy()
        assert second.iou_scores is not None
        assert np.float32(record["iou_score"]) == second.iou_scores[i].numpy()
        assert "boundary_score" not in record
        x, y, w, h = record["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(second.boxes[i].tolist(), abs=2e-3)
        mask = coco_mask.decode(record["segmentation"])
        np.testing.assert_array_equal(mask, second.masks[i].numpy())


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12)))
def test_masks_of_any_shape_survive(masks: np.ndarray) -> None:
    count = len(masks)
    records = to_records(
        1,
        Instances(
            boxes=torch.zeros(count, 4),
            scores=torch.ones(count),
            class_scores=torch.ones(count),
            labels=torch.zeros(count, dtype=torch.int64),
            masks=torch.from_numpy(masks),
        ),
        [5],
    )
    for record, mask in zip(records, masks, strict=True):
        assert record["segmentation"]["size"] == list(mask.shape)
        np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), mask)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20, unique=True))
def test_written_scores_rank_as_the_given_ones(scores: list[float]) -> None:
    count = len(scores)
    given_scores = torch.tensor(scores)
    records = to_records(
        1,
        Instances(
            boxes=torch.zeros(count, 4),
            scores=given_scores,
            class_scores=given_scores,
            labels=torch.zeros(count, dtype=torch.int64),
            masks=torch.zeros(count, 2, 2, dtype=torch.bool),
        ),
        [5],
    )
    written = json.loads(json.dumps([r["score"] for r in records]))
    np.testing.assert_array_equal(np.argsort(written), np.argsort(scores))


def test_images_without_detections_leave_no_record(tmp_path: Path) -> None:
    assert read_predictions(write(tmp_path / "p.jsonl.gz", instances(0), instances(0))) == []


def test_equal_predictions_give_equal_bytes(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl.gz", instances()), write(tmp_path / "b.jsonl.gz", instances())
    assert a.read_bytes() == b.read_bytes()


def test_an_interrupted_file_does_not_appear(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl.gz", instances())
    before = path.read_bytes()

    def interrupted() -> Iterator[Prediction]:
        yield from to_records(1, instances(seed=4), CATEGORY_IDS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_predictions(path, interrupted())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="cannot be written"):
        save_predictions(tmp_path / "file" / "p.jsonl.gz", [])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scores", float("nan"), r"image 4, detection 1: score is nan: .* finite .* diverged"),
        ("class_scores", float("inf"), r"detection 1: class_score is inf: .* finite"),
        ("boxes", float("nan"), r"detection 1: bbox.0 is nan: .* finite"),
        (
            "boxes",
            torch.tensor([9.0, 2.0, 5.0, 7.0]),
            r"detection 1: bbox.2 is -4.0: ",
        ),
        ("labels", 3, r"label 3 has no category"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    field: str, value: float | torch.Tensor, message: str
) -> None:
    broken = instances()
    getattr(broken, field)[1] = value
    with pytest.raises(EvaluationError, match=message):
        to_records(4, broken, CATEGORY_IDS)


def test_reading_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl.gz", instances())
    with gzip.open(path, "rt") as file:
        lines = file.read().splitlines()

    def reading(*content: str) -> list[dict[str, object]]:
        with gzip.open(path, "wt") as file:
            file.write("\n".join(content))
        return read_predictions(path)

    assert len(reading(*lines)) == 3
    with pytest.raises(EvaluationError, match=r"p\.jsonl\.gz line 2: cannot be read"):
        reading(lines[0], "{", lines[2])
    with pytest.raises(EvaluationError, match=r"p\.jsonl\.gz line 3: has no image_id"):
        reading(lines[0], lines[1], "{}")
    with pytest.raises(EvaluationError, match=r"line 1: the detection is \[\]: .* dictionary"):
        reading("[]")
    nan = json.dumps(json.loads(lines[0]) | {"score": float("nan")})
    with pytest.raises(EvaluationError, match=r"line 2: score is nan: .* finite"):
        reading(lines[1], nan)
    run_lengths = {"segmentation": {"size": [5], "counts": "0"}}
    short = json.dumps(json.loads(lines[0]) | run_lengths)
    with pytest.raises(
        EvaluationError, match=r"line 1: segmentation.size is \[5\]: not height and"
    ):
        reading(short)
    negative = json.dumps(json.loads(lines[0]) | {"bbox": [1, 2, -3, 4]})
    with pytest.raises(EvaluationError, match=r"line 1: bbox.2 is -3: .* write x y w h"):
        reading(negative)


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such prediction file"):
        read_predictions(tmp_path / "missing.jsonl.gz")
    path = write(tmp_path / "p.jsonl.gz", instances(30))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_predictions(path)
    path.write_text("not gzip")
    with pytest.raises(EvaluationError, match="line 1: cannot be read"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 999}, r"prediction 3: image_id 999 is not among the images evaluated"),
        ({"category_id": 1}, r"prediction 3: category_id 1 is not among the categories evaluated"),
        ({"segmentation": {"size": [96, 72], "counts": "0"}}, r"prediction 3: its mask is 96×72"),
        ({"bbox": [0, 0, float("nan"), 1]}, r"prediction 3: bbox.2 is nan: .* finite"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, r"prediction 3: segmentation is .* dictionary"),
    ],
)
def test_check_names_what_does_not_fit(changes: dict[str, object], message: str) -> None:
    truth, predictions = random_pair(3, images=4)
    known = load_ground_truth(truth)
    check_against(predictions, known)
    predictions[3] = predictions[3] | changes
    with pytest.raises(EvaluationError, match=message):
        check_against(predictions, known)
