"""``b2inst eval`` of prediction files and damaged images, ``b2inst predict`` and ``submit``."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from b2inst import evaluation
from b2inst.cli import app
from b2inst.cli.errors import STOPPED
from b2inst.data import SCENE_CLASSES, write_scenes
from b2inst.models import create_model
from b2inst.viz import predict as module
from b2inst.weights import save_model


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
    evaluated = ("eval", file, "--annotations", annotations)
    compared = ("compare", file, file, *evaluated[2:], "--jobs", 1, "--resamples", 100)
    for call in (evaluated, compared):
        with pytest.warns(UserWarning, match="1 of 1 images .* more than 100 objects"):
            assert _call(*call).stdout.splitlines()[1].split()[1] == "83.2"
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
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
        ([perfect[0] | {"score": float("nan")}], "score is nan: input should be a finite number"),
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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = create_model(
        "blendmask-tiny", num_classes=len(SCENE_CLASSES), class_names=SCENE_CLASSES, shorter=48
    )
    save_model(model, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Three images, the second cut off."""
    write_scenes(tmp_path / "scenes", split="val", images=3, size=48, seed=1)
    image = tmp_path / "scenes/val/000001.png"
    image.write_bytes(image.read_bytes()[:1000])
    return tmp_path / "scenes"


def test_the_remedy_for_a_damaged_image_works(tmp_path: Path, weights: Path, scenes: Path) -> None:
    annotations = scenes / "annotations/instances_val.json"
    layout = ("--annotations", annotations, "--images", scenes / "val")
    for call in (
        ("eval", weights, "--data", scenes, "--split", "val"),
        ("predict", weights, scenes / "val", "--out", tmp_path / "predicted"),
        ("submit", weights, *layout, "--out", tmp_path / "submitted"),
        ("bench", weights, "--data", scenes, "--split", "val", "--images", 3, "--device", "cpu"),
    ):
        stopped = _call(*call)
        assert stopped.exit_code == 1
        last = stopped.stderr.strip().splitlines()[-1]
        assert last.startswith(f"error: {scenes / 'val/000001.png'}: unreadable image")
        assert last.endswith("--skip-bad")
        done = _call(*call, "--skip-bad")
        assert done.exit_code == 0, done.output
        assert call[0] == "bench" or "000001.png: unreadable image" in done.stderr
    found = json.loads((tmp_path / "predicted/predictions.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["000000.png", "000002.png"]


def test_eval_predicts_and_measures_with_one_limit(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    call = ("eval", weights, "--data", tmp_path / "scenes", "--split", "val")
    assert _call(*call).exit_code == 0
    assert _call(*call, "--max-detections", 300).exit_code == 0
    assert limits == [100, 100, 300, 300]


def test_predict_goes_on_after_ctrl_c(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path / "scenes", split="val", images=3, size=48, seed=1)
    call = ("predict", weights, tmp_path / "scenes/val", "--out", tmp_path / "out")
    drawn = module.draw_instances
    seen: list[object] = []

    def stop_at_second(*arguments: Any, **options: Any) -> Any:
        seen.append(None)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return drawn(*arguments, **options)

    monkeypatch.setattr(module, "draw_instances", stop_at_second)
    stopped = _call(*call)
    assert stopped.exit_code == STOPPED
    assert "rerun to resume" in stopped.stderr
    done = _call(*call)
    assert (
        done.stdout == f"{tmp_path / 'out'}: 3 pictures (1 of them from before), predictions.json\n"
    )
    assert len(seen) == 4
    assert "score_threshold 0.3, not 0.5" in _error(*call, "--threshold", 0.5)
    assert _call(*call, "--threshold", 0.5, "--overwrite").exit_code == 0


def test_predict_warns_of_images_that_reached_the_limit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = create_model("blendmask-tiny", num_classes=2, shorter=None)
    head = model.instance_head
    torch.nn.init.zeros_(head.class_logits.bias)  # finds much in any image
    torch.nn.init.ones_(head.distances.bias)
    save_model(model, tmp_path / "m.safetensors")
    for name, pixels in {"large": (60, 400, 3), "small": (32, 32, 3)}.items():
        values = np.random.default_rng(0).integers(0, 256, pixels, dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    call = ("predict", tmp_path / "m.safetensors", tmp_path / "large.png", tmp_path / "small.png")
    for tile in ((), ("--tile", 192)):
        out = tmp_path / f"out{len(tile)}"
        done = _call(*call, "--out", out, "--max-detections", 60, *tile)
        assert done.exit_code == 0, done.output
        assert (
            done.stderr.splitlines()[-1] == "warning: 1 images reached the limit of 60 "
            "detections; raise it with --max-detections"
        )
        found = json.loads((out / "predictions.json").read_text())["annotations"]
        assert sum(a["image_id"] == 1 for a in found) == 60
    assert "warning" not in _call(*call, "--out", tmp_path / "all", "--max-detections", 5000).stderr


def test_predict_in_tiles_needs_a_model_without_resizing(tmp_path: Path, weights: Path) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    call = ("predict", weights, tmp_path / "a.png", "--out", tmp_path / "out", "--tile", 192)
    done = _call(*call)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: tile: this model resizes images; leave")


def test_predict_takes_the_images_of_a_split(tmp_path: Path, weights: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for seed, split in enumerate(("train", "valid")):
        write_scenes(data, split=split, images=1 + seed, size=48, seed=seed)
    (data / "valid/deep").mkdir()
    annotations = data / "annotations/instances_valid.json"
    (data / "valid/000001.png").rename(data / "valid/deep/000001.png")
    annotations.write_text(annotations.read_text().replace("000001.png", "deep/000001.png"))
    done = _call("predict", weights, "--data", data, "--out", out, "--label-maps")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}: 2 pictures, predictions.json\n"
    assert (out / "deep/000001_masks.png").is_file()
    found = json.loads((out / "predictions.json").read_text())["images"]
    assert [i["file_name"] for i in found] == ["000000.png", "deep/000001.png"]
    for given in ([], [data, "--data", data], [data, "--val-split", "valid"]):
        assert _call("predict", weights, *given, "--out", tmp_path / "no").exit_code == 2


def test_predict_takes_folders_with_videos(tmp_path: Path, weights: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "in/out"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (48, 48)).save(folder / "a/x.png")
    writer = cv2.VideoWriter(str(folder / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    for kept in ("", " (2 of them from before)"):
        done = _call("predict", weights, folder, "--out", out)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{out}: 1 pictures and 1 videos{kept}, predictions.json\n"
    (folder / "b.mp4").write_text("no video")
    last = _call("predict", weights, folder, "--out", out).stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {folder / 'b.mp4'}: OpenCV cannot decode this video")
    assert _call("predict", weights, folder, "--out", out, "--skip-bad").exit_code == 0


def test_predict_tells_of_too_large_images_in_one_line(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (60, 60)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # twice as many are an error
    call = ("predict", weights, tmp_path / "large.png", "--out", tmp_path / "out")
    stopped = _call(*call)
    assert stopped.exit_code == 1
    *_, told = stopped.stderr.strip().splitlines()  # after the progress bar
    assert told.startswith(f"error: {tmp_path / 'large.png'}: ")
    assert "more than 2,000 pixels" in told


def test_all_images_damaged_is_an_error(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    done = _call("predict", weights, tmp_path / "a.png", "--out", tmp_path / "o", "--skip-bad")
    assert done.exit_code == 1


def test_names_that_are_not_utf8_are_printed(tmp_path: Path) -> None:
    """To an output that takes nothing but UTF-8; by a command that does not import PyTorch."""
    out = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(out)
    except OSError:
        pytest.skip("the file system has no such names")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from b2inst.cli import app; app()"),
            *("data", "scenes", out, "--images", "1", "--size", "32"),
        ],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert rb"caf\udce9/annotations/instances_train.json" in done.stdout
