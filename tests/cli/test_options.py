from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import b2inst.experiments
from b2inst.cli import app
from b2inst.cli.options import parse_slurm
from b2inst.experiments.specs.errors import SpecError


def test_options_of_sbatch() -> None:
    given = ["partition=gpu,time=24:00:00", "exclusive,comment=a=b"]
    expected = {"partition": "gpu", "time": "24:00:00", "exclusive": True, "comment": "a=b"}
    assert parse_slurm(given) == expected
    assert parse_slurm(None) is None


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_table_is_launched_as_asked(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {}

    def make_table(name: str, **arguments: Any) -> None:
        asked.update(arguments)
        raise SpecError("enough")

    monkeypatch.setattr(b2inst.experiments, "make_table", make_table)
    options = ["--launcher", launcher, "--devices", "4", "--machines", "2", "--slurm", "mem=9G"]
    CliRunner().invoke(app, ["table", "table1", "--profile", "smoke", *options])
    assert asked["launcher"] == launcher
    machine = asked["machine"]
    assert (machine.devices, machine.machines, machine.slurm) == (4, 2, {"mem": "9G"})
