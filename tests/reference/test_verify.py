"""The command, on a small folder of the fixtures' form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from reference.__main__ import app

NAME = "blendmask_small_seed3"


def _call(folder: Path, name: str = NAME) -> Result:
    return CliRunner().invoke(app, [str(folder), name])


def test_every_value_has_a_line_and_agreement_is_exit_0(folder: Path) -> None:
    result = _call(folder)
    assert result.exit_code == 0, result.output
    named = [line.split(" ")[0] for line in result.stdout.splitlines()]
    with np.load(folder / f"{NAME}.npz") as arrays:
        assert set(arrays.files) <= set(named)
    assert "FAIL" not in result.stdout
    assert result.stdout.splitlines()[-1].endswith("values agree")
    assert "predicting" in result.stderr


def test_inputs_that_contradict_each_other_stop_before_the_model(copied: Path) -> None:
    file = copied / "blendmask_inputs.json"
    images = json.loads(file.read_text())
    images[1]["n_gt"] = 7
    file.write_text(json.dumps(images))
    result = _call(copied)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].endswith("differ: images[1].n_gt")
    assert "the model is not run" in result.stderr
    assert "predicting" not in result.stderr


def test_mistakes_are_one_line(copied: Path) -> None:
    spec = copied / "blendmask_small_spec.json"
    content = json.loads(spec.read_text())
    content["top_layer.bias"]["shape"] = [17]
    spec.write_text(json.dumps(content))
    for result in (_call(copied), _call(copied, "x_y_seed0"), _call(copied / "nowhere")):
        assert result.exit_code == 1
        assert result.stderr.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in result.output
    assert "instance_head.coefficients.bias" in _call(copied).stderr
