"""Where a number comes from is written down, whatever happens."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from b2inst.experiments.runs.provenance import (
    cpu_name,
    describe_machine,
    git_state,
    peak_memory_mb,
    recorded,
)
from b2inst.experiments.runs.store import Run, write_json


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a checkout of its own, clean."""
    folder = tmp_path / "b2inst"
    folder.mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "results").mkdir()
    (folder / "structures.py").write_text("x = 1\n")
    (tmp_path / "results/a.json").write_text("{}")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    return folder


def test_commit_of_a_clean_checkout(package: Path) -> None:
    assert git_state(package) == (_git(package, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("name", ["b2inst/structures.py", "b2inst/new.py", "experiments/new.yaml"])
def test_changes_of_what_decides_numbers_make_it_dirty(package: Path, name: str) -> None:
    (package.parent / name).write_text("x = 2\n")
    assert git_state(package)[1] is True


def test_written_results_do_not(package: Path) -> None:
    (package.parent / "results/a.json").write_text('{"AP": 1}')
    assert git_state(package)[1] is False


def test_a_package_installed_inside_another_checkout_has_no_commit(package: Path) -> None:
    inside = package.parent / ".venv/b2inst"
    inside.mkdir(parents=True)
    (inside / "structures.py").write_text("x = 1\n")
    assert git_state(inside) == (None, None)


def test_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == (None, None)


def test_machine_is_described() -> None:
    facts = describe_machine()
    assert facts["versions"]["torch"]
    assert facts["code"].keys() == {"training", "evaluation"}
    assert cpu_name()
    peak = peak_memory_mb()
    assert peak is None or 50 < peak < 100_000  # PyTorch alone takes more than the first


def test_sessions_add_up_and_the_beginning_stays(tmp_path: Path) -> None:
    run = Run(tmp_path / "abc")
    with recorded(run, "train", {"seed": 3}):
        begun = run.provenance()
    assert begun["steps"]["train"]["sessions"] == 1
    first = run.provenance()
    first["code"] = {"training": "earlier"}
    write_json(run.provenance_path, first)
    with pytest.raises(KeyboardInterrupt), recorded(run, "train", {}):
        raise KeyboardInterrupt
    second = run.provenance()
    assert second["seed"] == 3
    assert second["code"] == {"training": "earlier"}
    costs = second["steps"]["train"]
    assert costs["sessions"] == 2
    assert costs["wall_seconds"] >= first["steps"]["train"]["wall_seconds"]
    assert costs["started"] == first["steps"]["train"]["started"]
