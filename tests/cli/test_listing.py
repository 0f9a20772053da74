"""What there is, listed."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import b2inst
from b2inst.cli import app
from b2inst.models import CATALOG


def _lines(*arguments: str) -> list[list[str]]:
    """The cells of the printed table, without its head."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return [re.split(r" {2,}", line) for line in result.output.splitlines()[1:]]


def test_version() -> None:
    version = importlib.metadata.version("b2inst")
    assert b2inst.__version__ == version
    assert CliRunner().invoke(app, ["--version"]).output == f"b2inst {version}\n"


def test_every_model_of_the_catalog_is_listed() -> None:
    lines = _lines("models")
    assert {name for name, _, _ in lines} == set(CATALOG)
    assert len(lines) == len(CATALOG)
    assert ["b2inst-yolact-r50", "YOLACT with B2Inst", "ResNet-50"] in lines


def test_profiles_are_listed_with_own_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)
    folder = tmp_path / "experiments/profiles"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(
        yaml.safe_dump(
            {
                "extends": "tiny",
                "description": "Longer. Much longer.",
                "schedule": {"iterations": 1200},
                "data": {"size": 128},
            }
        )
    )
    lines = {name: rest for name, *rest in _lines("profiles")}
    assert lines["own"] == ["scenes, 128 pixels", "1200 × 8 images", "Longer"]
    assert lines["coco-1x"][:2] == ["COCO format, --data", "90000 × 16 images"]
    assert {"smoke", "tiny", "nuclei"} <= set(lines)


@pytest.mark.parametrize("command", ["models", "profiles", "--version"])
def test_pytorch_is_not_imported(command: str) -> None:
    program = f"""
import sys
from b2inst.cli import app
try:
    app([{command!r}])
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
