"""``--devices 2`` as users type it, beside one process. Minutes: every process imports anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from b2inst.cli import app

pytestmark = pytest.mark.slow

ONE_ROW = """
title: one row
source: none
columns: [AP]
base: CondInst
rows:
  - {name: CondInst, model: b2inst-condinst}
"""

#: In the first iteration losses differ by the rounding of their sums. Then AdamW, whose first steps
#: are as large for a gradient of next to nothing as for any other, makes more of it.
FIRST, LATER = 1e-5, 2e-3


@pytest.fixture(autouse=True)
def _scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)


def _call(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, [*arguments, "--profile", "smoke", "--device", "cpu"])
    assert result.exit_code == 0, result.output


def _runs(folder: Path) -> dict[str, Path]:
    """Folders by the hash of what the run is: tables and ``train`` name them differently."""
    paths = (folder / "runs").glob("*/provenance.json")
    return {json.loads(path.read_text())["spec_hash"]: path.parent for path in paths}


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_two_processes_train_the_smoke_profile_to_the_losses_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (tmp_path / "row.yaml").write_text(ONE_ROW)
    _call(one, monkeypatch, "train", "b2inst-blendmask-tiny")
    _call(one, monkeypatch, "train", "b2inst-condinst-tiny")
    _call(two, monkeypatch, "train", "b2inst-blendmask-tiny", "--devices", "2")
    _call(two, monkeypatch, "table", str(tmp_path / "row.yaml"), "--devices", "2")
    alone, together = _runs(one), _runs(two)
    assert len(alone) == 2
    assert alone.keys() == together.keys()
    for spec, run in together.items():
        lines, others = _log(alone[spec]), _log(run)
        assert len(lines) == len(others) == 6
        for line, other in zip(lines, others, strict=True):
            del line["seconds"], other["seconds"]
            tolerance = FIRST if line["iteration"] == 1 else LATER
            assert other == pytest.approx(line, rel=tolerance)
        facts = json.loads((run / "provenance.json").read_text())
        assert (facts["processes"], facts["machines"], facts["backend"]) == (2, 1, "gloo")
        assert list(run.glob("test/metrics.json"))
