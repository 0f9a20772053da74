"""``b2inst eval`` of prediction files."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from b2inst.cli import app
from b2inst.data import write_scenes


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _error(*arguments: object) -> str:
    """The one line a command fails with."""
    result = _call(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, Any]:
    """The annotations of scenes in ``coco``, whose images are gone."""
    write_scenes(tmp_path / "coco", split="val", images=4, size=48, seed=0)
    shutil.rmtree(tmp_path / "coco/val")
    content: dict[str, Any] = json.loads(
        (tmp_path / "coco/annotations/instances_val.json").read_text()
    )
    return content


@pytest.fixture
def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations as detections."""
    fields = ("image_id", "category_id", "segmentation", "bbox")
    return [{**{k: a[k] for k in fields}, "score": 0.9} for a in truth["annotations"]]


def test_predictions_of_any_tool(
    tmp_path: Path, truth: dict[str, Any], perfect: list[dict[str, Any]]
) -> None:
    """Each form of a file of perfect predictions has APs of 100, without the images."""
    lines = "".join(json.dumps(p) + "\n" for p in perfect)
    with_scores = truth | {"annotations": perfect}
    for name, content in (
        ("p.jsonl.gz", gzip.compress(lines.encode())),
        ("results.json", json.dumps(perfect).encode()),
        ("results.json.gz", gzip.compress(json.dumps(perfect).encode())),
        ("predictions.json", json.dumps(with_scores).encode()),
    ):
        (tmp_path / name).write_bytes(content)
        done = _call("eval", tmp_path / name, "--data", tmp_path / "coco", "--split", "val")
        assert done.exit_code == 0, done.output
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        assert [row[0] for row in rows] == ["mask", "boundary", "box"]
        assert all(row[1] == "100.0" and set(row[2:]) <= {"100.0", "–"} for row in rows)
        annotations = tmp_path / "coco/annotations/instances_val.json"
        out = tmp_path / f"of {name}"
        again = _call("eval", tmp_path / name, "--annotations", annotations, "--out", out)
        assert again.stdout.splitlines() == [*done.stdout.splitlines(), f"{out}: metrics.json"]
        assert json.loads((out / "metrics.json").read_text())["AP"] == pytest.approx(100)


def test_eval_replaces_no_metrics_unasked(tmp_path: Path, perfect: list[dict[str, Any]]) -> None:
    file, metrics = tmp_path / "results.json", tmp_path / "metrics.json"
    file.write_text(json.dumps(perfect))
    metrics.write_text("mine")
    call = ("eval", file, "--data", tmp_path / "coco", "--split", "val", "--out", tmp_path)
    assert "metrics.json: is there already" in _error(*call)
    assert metrics.read_text() == "mine"
    assert _call(*call, "--overwrite").exit_code == 0
    assert json.loads(metrics.read_text())["AP"] == pytest.approx(100)
    assert json.loads(file.read_text()) == perfect


def test_crowds_that_are_none(
    tmp_path: Path, truth: dict[str, Any], perfect: list[dict[str, Any]]
) -> None:
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 1
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(perfect))
    files = [tmp_path / "results.json"] * 2
    for arguments in (["eval", files[0]], ["compare", *files, "--jobs", 1, "--resamples", 100]):
        call = [*arguments, "--annotations", tmp_path / "truth.json"]
        refused = _call(*call)
        assert refused.exit_code == 1
        assert "annotations have iscrowd 1" in refused.stderr
        assert "--crowds-as-instances" in refused.stderr
        read = _call(*call, "--crowds-as-instances")
        assert read.exit_code == 0, read.output
        assert read.stdout.splitlines()[1].split()[1] == "100.0"


def test_compare_has_the_same_errors(
    tmp_path: Path, truth: dict[str, Any], perfect: list[dict[str, Any]]
) -> None:
    data = ("--data", tmp_path / "coco", "--split", "val")
    boxes = [{k: v for k, v in p.items() if k != "segmentation"} for p in perfect]
    foreign = [p | {"image_id": 77} for p in perfect]
    for content, message in (
        (boxes, "has no segmentation; give masks, boxes are not enough"),
        (foreign, "image_id 77 is not in the annotation file"),
        ([perfect[0] | {"score": float("nan")}], "score nan is not finite"),
        (truth, "has no score"),
        ({}, "has no predictions"),
    ):
        file = tmp_path / "wrong.json"
        file.write_text(json.dumps(content))
        line = _error("eval", file, *data)
        assert message in line
        assert str(file) in line
        assert _error("compare", file, file, *data, "--jobs", 1) == line
    assert "none.json" in _error("eval", "none.json", *data)
    assert "no split 'other'" in _error("eval", file, *data[:2], "--split", "other")
    assert _call("eval", file).exit_code == 2
