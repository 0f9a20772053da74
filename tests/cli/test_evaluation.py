"""``b2inst eval`` and ``b2inst compare`` as users script them."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call as _call
from command_line import error as _error

from b2inst import evaluation
from b2inst.cli.evaluation import comparison_text
from b2inst.data import SCENE_CLASSES, write_scenes
from b2inst.evaluation.bootstrap import Comparison, noise_band
from b2inst.models import create_model
from b2inst.weights import save_model


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
        split = f"{tmp_path / 'coco/annotations/instances_val.json'}:nowhere"
        out = tmp_path / f"of {name}"
        data = ("--data", tmp_path, "--split", split)
        again = _call("eval", tmp_path / name, *data, "--out", out)
        assert again.stdout.splitlines() == [*done.stdout.splitlines(), f"{out}: metrics.json"]
        assert json.loads((out / "metrics.json").read_text())["AP"] == pytest.approx(100)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_more_objects_than_detections_count(tmp_path: Path) -> None:
    """120 bars in an image, all found: the 100 best are at 84 of 101 recall levels."""
    bars = [[300 * n, 20, 300 * 100 - 300 * n - 20] for n in range(100)]
    bars += [[300 * n + 100, 20, 300 * 100 - 300 * n - 120] for n in range(20)]
    found = [
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [300, 100], "counts": counts}}
        for counts in bars
    ]
    truth = {
        "images": [{"id": 1, "file_name": "1.png", "height": 300, "width": 100}],
        "categories": [{"id": 1, "name": "bar"}],
        "annotations": [{"id": n, "iscrowd": 0} | one for n, one in enumerate(found, start=1)],
    }
    annotations, file = tmp_path / "truth.json", tmp_path / "results.json"
    annotations.write_text(json.dumps(truth))
    file.write_text(json.dumps([one | {"score": 0.9} for one in found]))
    evaluated = ("eval", file, "--data", tmp_path, "--split", f"{annotations}:nowhere")
    compared = ("compare", file, file, *evaluated[2:], "--resamples", 100)
    for call in (evaluated, compared):
        with pytest.warns(UserWarning, match="1 of 1 images .* more than 100 objects"):
            assert _call(*call).stdout.splitlines()[1].split()[1] == "83.2"
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", "1 image: intervals")
            seen = _call(*call, "--max-detections", 120, "--boundary-pixels", 1)
        assert seen.stdout.splitlines()[1].split()[1] == "100.0"
    done = _call(*evaluated, "--max-detections", 120, "--groups")
    lines = {line[:18].strip(): line[18:].split()[0] for line in done.stdout.splitlines()[1:]}
    assert lines["mask"] == lines["touching mask"] == lines["touching boundary"] == "100.0"
    assert lines["isolated mask"] == "–"
    assert _call(*evaluated, "--max-detections", 0).exit_code == 2


def test_eval_replaces_no_metrics_unasked(tmp_path: Path, perfect: list[dict[str, Any]]) -> None:
    file, metrics = tmp_path / "results.json", tmp_path / "metrics.json"
    file.write_text(json.dumps(perfect))
    metrics.write_text("mine")
    call = ("eval", file, "--data", tmp_path / "coco", "--split", "val", "--out", tmp_path)
    assert "metrics.json: already exists" in _error(*call)
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
    for arguments in (["eval", files[0]], ["compare", *files, "--resamples", 100]):
        call = [*arguments, "--data", tmp_path, "--split", f"{tmp_path / 'truth.json'}:nowhere"]
        refused = _call(*call)
        assert refused.exit_code == 1
        assert "all annotations have iscrowd 1" in refused.stderr
        assert "--crowds-as-instances" in refused.stderr
        read = _call(*call, "--crowds-as-instances")
        assert read.exit_code == 0, read.output
        assert read.stdout.splitlines()[1].split()[1] == "100.0"


def test_predictions_of_images_that_are_not_held_out(tmp_path: Path) -> None:
    write_scenes(tmp_path / "coco", split="val", images=4, size=48, seed=0)
    truth = json.loads((tmp_path / "coco/annotations/instances_val.json").read_text())
    for annotation in truth["annotations"]:
        annotation["score"] = 0.9
    data = ("--data", tmp_path / "coco", "--val-fraction", 0.5)
    for content, named in ((truth, "file_name"), (truth["annotations"], "image_id")):
        (tmp_path / "p.json").write_text(json.dumps(content))
        line = _error("eval", tmp_path / "p.json", *data)
        assert f": {named} " in line
        assert (
            "is not among the images evaluated; evaluate with the annotations, and --val-" in line
        )


_ENDINGS = "not a prediction file; give one of .json, .json.gz, .jsonl.gz"


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson", "p.json.zip"])
def test_predictions_of_another_ending_are_not_taken_for_weights(
    tmp_path: Path, perfect: list[dict[str, Any]], name: str
) -> None:
    (tmp_path / name).write_text("".join(json.dumps(p) + "\n" for p in perfect))
    line = _error("eval", tmp_path / name, "--data", tmp_path / "coco")
    assert line.endswith(f"{name}: {_ENDINGS}")


def test_endings_may_have_capitals(tmp_path: Path, perfect: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(p) + "\n" for p in perfect).encode()
    for name, content in (("P.JSON", json.dumps(perfect).encode()), ("P.JSONL.GZ", lines)):
        (tmp_path / name).write_bytes(gzip.compress(content))
        done = _call("eval", tmp_path / name, "--data", tmp_path / "coco", "--split", "val")
        assert done.exit_code == 0, done.output


def test_compare_has_the_same_errors(
    tmp_path: Path, truth: dict[str, Any], perfect: list[dict[str, Any]]
) -> None:
    data = ("--data", tmp_path / "coco", "--split", "val")
    boxes = [{k: v for k, v in p.items() if k != "segmentation"} for p in perfect]
    foreign = [p | {"image_id": 77} for p in perfect]
    for content, message in (
        (boxes, "has no segmentation; give masks, boxes are not enough"),
        (foreign, "image_id 77 is not among the images evaluated"),
        ([perfect[0] | {"score": float("nan")}], "score is nan: input should be a finite number"),
        (truth, "has no score"),
        ({}, "has no predictions"),
    ):
        file = tmp_path / "wrong.json"
        file.write_text(json.dumps(content))
        line = _error("eval", file, *data)
        assert message in line
        assert str(file) in line
        assert _error("compare", file, file, *data) == line
    assert "none.json" in _error("eval", "none.json", *data)
    assert "no split 'other'" in _error("eval", file, *data[:2], "--split", "other")
    assert _call("eval", file).exit_code == 2


def test_eval_predicts_and_measures_with_one_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create_model("blendmask-tiny", num_classes=8, class_names=SCENE_CLASSES)
    save_model(model, tmp_path / "m.safetensors")
    write_scenes(tmp_path / "scenes", split="val", images=1, size=48, seed=1)
    limits: list[int] = []

    def predicted(model: Any, index: object, path: Path, **_: object) -> None:
        limits.append(model.max_detections)
        evaluation.save_predictions(path, [])

    def measured(*_: object, max_detections: int, **__: object) -> dict[str, None]:
        limits.append(max_detections)
        return {}

    monkeypatch.setattr(evaluation, "write_predictions", predicted)
    monkeypatch.setattr(evaluation, "evaluate", measured)
    call = ("eval", tmp_path / "m.safetensors", "--data", tmp_path / "scenes")
    assert _call(*call).exit_code == 0
    assert _call(*call, "--max-detections", 300).exit_code == 0
    assert limits == [100, 100, 300, 300]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Scenes, and three perfect predictions of them as COCO results."""
    write_scenes(tmp_path / "coco", split="val2017", images=4, size=48, seed=0)
    truth = json.loads((tmp_path / "coco/annotations/instances_val2017.json").read_text())
    fields = ("image_id", "category_id", "segmentation", "bbox")
    perfect = [{**{k: a[k] for k in fields}, "score": 0.9} for a in truth["annotations"]]
    for name, records in (("perfect", perfect), ("half", perfect[::2]), ("none", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return tmp_path / "coco"


def test_two_files(coco: Path, tmp_path: Path) -> None:
    files = [tmp_path / "none.json", tmp_path / "perfect.json"]
    done = _call("compare", *files, "--data", coco, "--resamples", 100)
    assert done.exit_code == 0, done.output
    lines = {line[:13].strip(): line[13:].split() for line in done.stdout.splitlines()}
    for metric in ("AP", "boundary AP", "box AP75"):
        assert lines[metric] == ["0.0", "100.0", "+100.0", "[+100.0,", "+100.0]"]
    assert "without the variation between seeds" in done.stdout


def test_seeds_are_put_together_by_commas(coco: Path, tmp_path: Path) -> None:
    half, perfect = tmp_path / "half.json", tmp_path / "perfect.json"
    done = _call(
        *("compare", f"{half},{perfect}", f"{perfect},{half}", "--data", coco),
        *("--resamples", 100),
    )
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("AP ")]
    assert "+0.0 [" in line
    assert line.endswith("≈")
    assert line.count("±") == 2
    assert "the differences of the 2 seeds" in done.stdout


def test_mistakes_are_one_line(coco: Path, tmp_path: Path) -> None:
    perfect = tmp_path / "perfect.json"
    for arguments, message in (
        ([f"{perfect},{perfect}", perfect, "--data", coco], "2 and 1 files"),
        ([tmp_path / "gone.json", perfect, "--data", coco], "gone.json"),
        ([perfect, perfect, "--data", coco, "--split", "other"], "no split 'other'"),
    ):
        done = _call("compare", *arguments)
        assert done.exit_code == 1, done.output
        (line,) = done.stderr.strip().splitlines()
        assert message in line
    assert _call("compare", perfect, perfect).exit_code == 2


def test_metrics_without_ground_truth_are_dashes() -> None:
    a, b = [np.array([40.0, 39.0, 41.0])], [np.array([41.0, 40.5, 42.0])]
    text = comparison_text(
        {
            "AP": Comparison([40.0], [41.0], noise_band(b, a)),
            "APl": Comparison([float("nan")], [float("nan")], None),
        },
        resamples=2,
    )
    lines = text.splitlines()
    assert lines[1].split() == ["AP", "40.0", "41.0", "+1.0", "[+1.0,", "+1.5]"]
    assert lines[2].split() == ["APl", "–", "–", "–"]
