"""Two processes train and predict as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from b2inst.data import CocoIndex
from b2inst.evaluation import read_predictions
from b2inst.weights import load_model

#: Of float32 sums in another order, in parts of a tensor's largest value, after a few steps of SGD.
ROUNDING = 2e-4


@pytest.fixture(scope="module")
def two(index: CocoIndex, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes found together; half a minute, since a fresh process imports anew."""
    out = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("in_two_processes.py")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, (index.annotation_file, index.image_dir, out))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    first, second = (json.loads((out / f"found-{rank}.json").read_text()) for rank in (0, 1))
    return {"out": out, "first": first, "second": second}


def log(out: Path) -> list[dict[str, float]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_losses_gradients_and_weights_are_those_of_one_process(two: dict[str, Any]) -> None:
    """Of every loss; with objects spread unevenly, on one device only, and on none."""
    differences = two["first"]["differences"]
    assert len(differences) == 7
    assert {name: d for name, d in differences.items() if max(d) > ROUNDING} == {}


def test_means_over_boxes_are_those_of_one_process(two: dict[str, Any]) -> None:
    """One box and three, all and none."""
    alone = two["first"]["in boxes, alone"]
    assert len(alone) == 3
    for together in two["first"]["in boxes"]:
        assert together == pytest.approx(alone, rel=1e-6)


def test_the_log_is_that_of_one_process(two: dict[str, Any]) -> None:
    assert two["first"]["together"] == two["second"]["together"] == "done"
    alone, together = log(two["out"] / "alone"), log(two["out"] / "together")
    assert len(alone) == 4
    for one, other in zip(alone, together, strict=True):
        assert other == pytest.approx(one, rel=ROUNDING)


def test_stopped_together_they_go_on_exactly(two: dict[str, Any]) -> None:
    """The second is told to stop while it loads its third batch; each has its random numbers."""
    for found in (two["first"], two["second"]):
        assert found["stopped"] == "stopped after iteration 3; rerun to resume"
        assert found["whole"] == found["gone on"] == "done"
    whole, parts = (
        load_model(two["out"] / n / "model.safetensors").state_dict() for n in ("whole", "parts")
    )
    assert all(value.equal(parts[name]) for name, value in whole.items())
    assert log(two["out"] / "parts") == log(two["out"] / "whole")


def test_a_bad_loss_of_one_is_the_error_of_all(two: dict[str, Any], index: CocoIndex) -> None:
    message = two["first"]["broken"]
    assert message.startswith("iteration 2: loss_mask not finite on images [")
    assert two["second"]["broken"] == message
    assert (two["out"] / "broken" / "checkpoint.pt").is_file()


def test_predictions_are_the_same_bytes(two: dict[str, Any], index: CocoIndex) -> None:
    alone, together = (two["out"] / f"{name}.jsonl.gz" for name in ("alone", "together"))
    assert {record["image_id"] for record in read_predictions(alone)} == {
        image.id for image in index.images
    }
    assert together.read_bytes() == alone.read_bytes()


def test_what_processes_tell_each_other(two: dict[str, Any]) -> None:
    first, second = two["first"], two["second"]
    assert first["share"] == second["share"] == 1.5
    assert first["least share"] == second["least share"] == 0.5
    assert (first["gathered"], second["gathered"]) == ([0, 1], [])
    assert first["from first"] == second["from first"] == 0
    assert first["error of first"] == second["error of first"] == "of the first"
    assert not first["joined"]
    assert not second["joined"]
