"""``b2inst predict``, and damaged images in other commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from command_line import call as _call
from command_line import error as _error
from PIL import Image

from b2inst.cli import STOPPED
from b2inst.cli.models import _written
from b2inst.data import SCENE_CLASSES, write_scenes
from b2inst.models import create_model
from b2inst.viz import predict as module
from b2inst.viz.predict import PredictedFiles
from b2inst.weights import save_model


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


def test_predict_names_bad_images_when_the_others_are_done(
    tmp_path: Path, weights: Path, scenes: Path
) -> None:
    (scenes / "val/empty.jpg").touch()
    done = _call("predict", weights, scenes / "val", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert f"{tmp_path / 'out'}: 2 annotated images\n" in done.stdout
    *_, skipped, error = done.stderr.strip().splitlines()
    assert skipped.startswith(f"skipped: {scenes / 'val/empty.jpg'}: unreadable image")
    assert error.startswith(f"error: {scenes / 'val/000001.png'}: unreadable image")


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
    assert f"{tmp_path / 'out'}: 3 annotated images (1 from an earlier call)\n" in done.stdout
    assert len(seen) == 4
    assert "--threshold 0.3, not 0.5; choose another" in _error(*call, "--threshold", 0.5)
    assert _call(*call, "--threshold", 0.5, "--overwrite").exit_code == 0


def test_predict_counts_what_it_found(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = create_model("blendmask-tiny", num_classes=2, shorter=None, max_detections=7)
    torch.nn.init.zeros_(model.instance_head.class_logits.bias)  # finds much in any image
    torch.nn.init.ones_(model.instance_head.distances.bias)
    save_model(model, tmp_path / "m.safetensors")
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    call = ("predict", tmp_path / "m.safetensors", tmp_path / "a.png", "--out")
    many = _call(*call, tmp_path / "many", "--threshold", 0.01).stdout
    assert f"{tmp_path}/many/predictions.json: 7 detections, 7 of them drawn" in many
    none = _call(*call, tmp_path / "none", "--threshold", 1).stdout
    found = json.loads((tmp_path / "none/predictions.json").read_text())["annotations"]
    best = max(annotation["score"] for annotation in found)
    assert f"7 detections, none drawn: the highest score is {best:.2g}, " in none
    nowhere = _error("predict", tmp_path / "m.safetensors", tmp_path / "b", "--out", tmp_path / "o")
    assert "b: no such file or folder" in nowhere


@pytest.mark.parametrize(
    ("score", "threshold", "shown"),
    [
        (0.2997, 0.3, "0.2997"),
        (0.1234, 0.3, "0.12"),
        (0.29999999, 0.3, "0.29999999"),
        (0.9, 0.9000001, "0.9"),
        (0.0, 1e-9, "0"),
    ],
)
def test_a_score_below_the_threshold_is_shown_below_it(
    score: float, threshold: float, shown: str
) -> None:
    found = PredictedFiles([], kept=0, full=0, detections=1, drawn=0, best_score=score, bad=[])
    text = _written(found, Path("o"), threshold=threshold, label_maps=False)
    assert f": the highest score is {shown}, less than --threshold {threshold}; " in text


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
            done.stderr.splitlines()[-1] == "warning: 1 image reached the limit of 60 "
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
    assert done.stdout.startswith(f"{out}: 2 annotated images\n{out}: label maps, *_masks.png\n")
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
    for kept in ("", " (2 from an earlier call)"):
        done = _call("predict", weights, folder, "--out", out, "--label-maps")
        assert done.exit_code == 0, done.output
        assert f"{out}: 1 annotated image and 1 annotated video{kept}\n" in done.stdout
        assert f"{out}: label maps, *_masks.png and *.mp4_masks/*.png\n" in done.stdout
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
    """Which advises nothing that was done, and repeats nothing."""
    (tmp_path / "a.png").write_text("no image")
    call = ("predict", weights, tmp_path / "a.png", tmp_path / "gone.mp4", tmp_path / "nope")
    done = _call(*call, "--out", tmp_path / "o", "--skip-bad")
    assert done.exit_code == 1
    *skipped, last = [line for line in done.stderr.splitlines() if ": " in line][-4:]
    assert [line.split(": ")[1] for line in skipped] == [str(path) for path in call[2:]]
    assert last == "error: none of the images can be read; restore them or give others"
    assert "--skip-bad" not in done.stderr


def test_a_file_in_place_of_the_out_folder(tmp_path: Path, weights: Path) -> None:
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    (tmp_path / "o").touch()
    line = _error("predict", weights, tmp_path / "a.png", "--out", tmp_path / "o")
    assert line.startswith(f"error: {tmp_path / 'o'}: cannot be written (File exists); ")


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
