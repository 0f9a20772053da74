"""The script that measures on a GPU, in small on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer

import b2inst
from b2inst.experiments.runs.store import read_json


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(b2inst.__file__).parents[1] / "experiments"))
    return load_script("gpu")


@pytest.mark.parametrize("name", ["bench-tf32", "bench-bfloat16"])
def test_speed(script: ModuleType, name: str) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    work, options, _ = script.STEPS[name]
    content = work(True, **options)
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])
    assert content["tf32"] == ("tf32" in name)
    (found,) = content["sizes"].values()
    assert [speed["detections"] for speed in found["speeds"]] == [5, 5]


def test_missing_steps_are_taken(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ({*script.STEPS} - {"training"}) | {"table1-smoke"}:
        (tmp_path / f"{name}.json").write_text('{"cases": []}')
    script.main(out=tmp_path, minutes=12, tiny=True, profile="smoke", data=None, step=None)
    assert "all there" in capfd.readouterr().out
    made = read_json(tmp_path / "training.json")
    assert [case["batch"] for case in made["cases"]] == [2, 2]
    assert made["gpu_provenance"]["wall_seconds"] > 0
    name, pixels, rate, _ = script.columns(made["cases"][:1]).splitlines()[-1].split(" | ")
    assert (name, pixels) == ("| `blendmask-tiny` ×2", "64×64")
    assert float(rate) == pytest.approx(2 / made["cases"][0]["wall_seconds"], abs=0.05)


def test_what_time_does_not_allow_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        script.main(out=tmp_path, minutes=0, tiny=True, profile="smoke", data=None, step=None)
    assert "not finished: tests, bench-float32, " in capsys.readouterr().out
