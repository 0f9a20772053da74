from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from b2inst.cli import app


def test_without_trained_models_each_figure_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)
    result = CliRunner().invoke(app, ["figures", "--profile", "smoke"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "not drawn" in line]
    assert len(lines) >= 8
    assert "run `make table1 PROFILE=smoke`" in lines[0]
    assert (tmp_path / "results/local/smoke/figures/figures.json").is_file()
