"""What is imported, and when: light uses stay light."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import b2inst

ROOT = Path(b2inst.__file__).parent
LAZY = [
    ".".join(("b2inst", *path.parent.relative_to(ROOT).parts))
    for path in sorted(ROOT.rglob("__init__.pyi"))
]
assert "b2inst.models" in LAZY


def _imported(program: str, *arguments: object) -> set[str]:
    """Modules that a program has imported when it ends."""
    end = (
        "import atexit, sys; atexit.register(lambda: print('\\n', *sys.modules, file=sys.stderr))\n"
    )
    command = [sys.executable, "-c", end + program, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", LAZY)
def test_names_of_a_package(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__all__
    assert set(package.__all__) <= set(dir(package))
    # A module of the same name would take a name's place, once it is imported.
    assert not set(package.__all__) & {
        path.stem for path in Path(package.__file__).parent.iterdir()
    }
    assert not [n for n in package.__all__ if isinstance(getattr(package, n), ModuleType)]
    with pytest.raises(AttributeError, match=f"{name}.* attribute.* nothing"):
        _ = package.nothing


def test_packages_import_nothing_of_theirs_at_once() -> None:
    found = _imported("\n".join(f"import {name}" for name in LAZY))
    assert {name for name in found if name.startswith("b2inst")} == {*LAZY}
    assert not found & {"torch", "numpy", "pydantic"}


def test_help_of_every_command() -> None:
    found = _imported(
        """
from typer.main import get_command
from b2inst.cli import app
for words in [[], ["data"], *([c] for c in get_command(app).commands), ["data", "check"]]:
    try:
        app([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""
    )
    assert "b2inst.cli.models" in found
    assert not found & {"torch", "numpy", "pydantic", "rich", "yaml"}


def test_files_are_checked_and_evaluated_without_pytorch(tmp_path: Path) -> None:
    program = """
import json, sys
from pathlib import Path
from types import ModuleType
from b2inst.cli import app
def call(*arguments):
    try:
        app(arguments)
    except SystemExit as end:
        assert end.code == 0
folder, results = sys.argv[1:]
call("data", "scenes", folder, "--images", "2", "--split", "val")
call("data", "check", folder)
truth = json.loads(Path(folder, "annotations/instances_val.json").read_text())
found = [{k: a[k] for k in ("image_id", "category_id", "segmentation", "bbox")} | {"score": 0.5}
         for a in truth["annotations"]]
Path(results).write_text(json.dumps(found))
call("eval", results, "--data", folder)
call("compare", results, results, "--data", folder)
"""
    found = _imported(program, tmp_path / "data", tmp_path / "results.json")
    assert "b2inst.evaluation.bootstrap" in found
    assert not found & {"torch", "pandas", "matplotlib"}


def test_a_worker_imports_what_runs_need_and_leaves_gpus_to_them() -> None:
    found = _imported(
        """
import torch
def touched(*_): raise AssertionError("a driver that has begun cannot be used after a fork")
for name in ("_cuda_init", "_cuda_getDeviceCount"):
    setattr(torch._C, name, touched)
import b2inst.experiments.runs.launch, lightning.fabric
"""
    )
    assert {"lightning.fabric", "b2inst.training.loop", "b2inst.evaluation.inference"} <= found
    unused = ("benchmark", "cli", "experiments.tables", "viz")
    assert not found & {f"b2inst.{name}" for name in unused}
    assert not found & {"pandas", "jinja2", "nbconvert", "papermill"}
