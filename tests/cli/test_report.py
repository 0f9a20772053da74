from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from b2inst.cli import app


def test_the_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/local/mine").mkdir(parents=True)
    result = CliRunner().invoke(app, ["report", "--profile", "mine"])
    assert result.exit_code == 0, result.output
    assert result.output == "results/local/mine/index.html: open it in a browser\n"
    assert (tmp_path / "results/local/mine/index.html").is_file()


def test_without_results_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", "--profile", "small"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: results/local/small: no results yet")
