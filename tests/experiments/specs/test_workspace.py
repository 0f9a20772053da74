"""Notebooks and make targets mean the same place."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.specs import workspace as workspace_module
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.workspace import Workspace, shipped


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


def test_own_files_come_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "experiments/profiles").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    own = [tmp_path / f"experiments/profiles/{name}.yaml" for name in ("own", "tiny")]
    notebook = tmp_path / "notebooks/quickstart.ipynb"
    for file in (*own, notebook):
        file.touch()
    found = workspace.specs("profiles")
    assert [found["own"], found["tiny"]] == own
    assert found["smoke"] == shipped("experiments") / "profiles/smoke.yaml"
    assert workspace.spec_file("tiny", kind="profiles") == own[1]
    assert workspace.notebook("quickstart.ipynb") == notebook
    assert workspace.notebook("figures.ipynb") == shipped("notebooks") / "figures.ipynb"


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no profile 'big'; there are .*smoke, tiny"):
        Workspace(tmp_path).spec_file("big", kind="profiles")


def test_files_are_shipped_in_the_checkout_and_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Path(__file__).parents[3]
    assert shipped("experiments") == checkout / "experiments"
    assert shipped("notebooks") == checkout / "notebooks"
    installed = tmp_path / "b2inst/_data/experiments"
    installed.mkdir(parents=True)
    monkeypatch.setattr(workspace_module, "files", tmp_path.joinpath)
    assert shipped("experiments") == installed


def test_paths_are_shown_from_the_root(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.shown(tmp_path / "runs/abc") == "runs/abc"
    assert workspace.shown(Path("/elsewhere")) == "/elsewhere"


def test_a_file_may_not_take_the_name_of_another(tmp_path: Path) -> None:
    """Whose results it would replace."""
    workspace, path = Workspace(tmp_path), tmp_path / "smoke.yaml"
    path.write_text("extends: smoke")
    with pytest.raises(SpecError, match=r"smoke\.yaml: results of .*smoke\.yaml have this"):
        workspace.spec_file(str(path), kind="profiles")
    assert workspace.spec_file(str(path), kind="") == path  # there is no table of this name
    shipped = workspace.spec_file("smoke", kind="profiles")
    assert workspace.spec_file(str(shipped), kind="profiles") == shipped
