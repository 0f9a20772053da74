from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from b2inst.cli import app
from b2inst.data import write_scenes


def test_a_pair_of_models(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="val", images=2, size=48, seed=0)
    out = tmp_path / "results/bench.json"
    options = ["--data", tmp_path, "--split", "val", "--images", 2, "--size", "64x96"]
    options += ["--detections", 5, "--device", "cpu", "--option", "attention_size=5", "--json", out]
    names = ["blendmask-tiny", "b2inst-blendmask-tiny"]
    done = CliRunner().invoke(app, ["bench", *names, *map(str, options)])
    assert done.exit_code == 0, done.output
    assert "images: 2 (val), one at a time; cpu, float32" in done.stdout
    assert f"{names[1]} takes" in done.stdout
    content = json.loads(out.read_text())
    assert [entry["model"] for entry in content["speeds"]] == names
    assert content["speeds"][0]["options"] == {"attention_size": 5}
    assert content["provenance"]["versions"]["torch"]

    again = CliRunner().invoke(app, ["bench", *names, "--json", str(out)])
    assert again.exit_code == 1
    assert "bench.json: already exists" in again.stderr
    assert json.loads(out.read_text()) == content


@pytest.mark.parametrize("size", ["800", "0x10", "axb"])
def test_sizes_that_are_none(size: str) -> None:
    assert CliRunner().invoke(app, ["bench", "blendmask-tiny", "--size", size]).exit_code == 2


def test_an_unknown_model_is_one_line() -> None:
    done = CliRunner().invoke(app, ["bench", "blendmask-huge", "--images", "1"])
    assert done.exit_code == 1
    (line,) = done.stderr.strip().splitlines()
    assert "unknown model 'blendmask-huge'" in line
