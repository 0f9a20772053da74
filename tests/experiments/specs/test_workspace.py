"""Notebooks and make targets mean the same place."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.specs.workspace import Workspace


def test_here_is_the_checkout_from_any_folder_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments/profiles").mkdir(parents=True)
    (tmp_path / "notebooks/deep").mkdir(parents=True)
    for folder in ("", "notebooks", "notebooks/deep"):
        monkeypatch.chdir(tmp_path / folder)
        assert Workspace.here().root == tmp_path


def test_here_is_the_current_folder_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.here()
    assert workspace.runs == tmp_path / "runs"
    assert workspace.spec_file("tiny", kind="profiles").name == "tiny.yaml"  # the package's own


def test_own_specs_come_first(tmp_path: Path) -> None:
    (tmp_path / "experiments/profiles").mkdir(parents=True)
    mine = tmp_path / "experiments/profiles/tiny.yaml"
    mine.touch()
    assert Workspace(tmp_path).spec_file("tiny", kind="profiles") == mine


def test_paths_are_shown_from_the_root(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.shown(tmp_path / "runs/abc") == "runs/abc"
    assert workspace.shown(Path("/elsewhere")) == "/elsewhere"
