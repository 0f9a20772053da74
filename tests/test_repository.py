"""What README promises is there, and notebooks keep the house rules."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PROSE = [*PAGES, *NOTEBOOKS, *sorted((ROOT / "experiments").rglob("*.yaml"))]
PROMISED = "".join(
    (ROOT / page).read_text("utf-8")
    for page in ("README.md", "CONTRIBUTING.md", "docs/reference.md")
)

#: Phrases that this project coined, and that say less than the field's own terms.
COINED = re.compile(
    r"told apart|goes on where|(inside|beyond) (the|its) noise|\bband of noise|\bbetters\b"
    r"|\buntaught\b|taken for background|\banew\b|\bby lot\b|what came out|drawn scenes"
    r"|\bis at hand\b|\bwere tried out\b|\bhas to be said\b"
)


@pytest.fixture(scope="module")
def targets() -> set[str]:
    """What `make` lists."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  ([\w-]+) ", listed.stdout, flags=re.MULTILINE))


def test_make_targets_exist(targets: set[str]) -> None:
    promised = set(re.findall(r"\bmake (\w+)", PROMISED))
    listed = re.findall(r"^make (\w.* \| .*)$", PROMISED, flags=re.MULTILINE)
    promised |= set(re.findall(r"[\w-]+", " ".join(listed)))
    assert promised <= targets


@pytest.mark.parametrize("target", ["table1", "figures", "report", "bench", "gpu"])
def test_paths_may_have_spaces(target: str) -> None:
    call = ["make", "-n", target, "DATA=my data", "START=my weights", "PROFILE=my profile.yaml"]
    command = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    words = shlex.split(command.stdout.replace("\\\n", ""))
    assert ("my data" in words) == (target != "report")
    assert ("my weights" in words) == (target == "table1")
    assert ("my profile.yaml" in words) == (target in ("table1", "figures", "report"))


def test_notebooks_are_given_whole_paths(tmp_path: Path) -> None:
    makefile = f"include {ROOT / 'Makefile'}\nshow: ; @$(SHOWN) printenv B2INST_DATA\n"
    for given, expected in (("my data", tmp_path / "my data"), ("/my data", "/my data"), ("", "")):
        call = ["make", "--no-print-directory", "-f", "-", "show", f"DATA={given}"]
        shown = subprocess.run(call, cwd=tmp_path, input=makefile, capture_output=True, text=True)
        assert shown.stdout == f"{expected}\n"


def test_jupyter_is_allowed_to_run_as_root() -> None:
    command = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True)
    assert ("--allow-root" in command.stdout) == (os.getuid() == 0)


def test_commands_exist() -> None:
    from typer.main import get_command

    from b2inst.cli import app

    root: Any = get_command(app)
    words = re.findall(r"\bb2inst (data \w+|table|train|eval|predict)\b", PROMISED)
    assert len(set(words)) >= 6
    for command in words:
        found = root
        for word in command.split():
            assert word in found.commands, f"b2inst {command}"
            found = found.commands[word]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_linked_files_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:b2inst|tests|experiments|findings)/[\w/.-]+)`", page.read_text("utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_contributing_says_where_things_are() -> None:
    places = re.findall(
        r"`(\w+)` in `(b2inst/[\w/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    )
    assert len(places) >= 4
    for name, file in places:
        defined = rf"^(def|class) {name}\b|^{name}\b.* = "
        assert re.search(defined, (ROOT / file).read_text("utf-8"), re.MULTILINE), (name, file)


@pytest.mark.parametrize("page", PROSE, ids=lambda path: path.name)
def test_no_coined_phrases(page: Path) -> None:
    assert COINED.search("this is not told apart from noise")
    text = re.sub(r"\s+", " ", page.read_text("utf-8"))  # across line breaks
    assert [found[0] for found in COINED.finditer(text)] == []


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"quickstart", "table1_ablation"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1, "one cell is tagged `parameters`"
    for cell in code:
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 20
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert not re.search(r"^\s*(def|class) ", source, flags=re.MULTILINE)
        assert cell in tagged or "environ" not in source


def test_nothing_of_pytorch_that_is_private() -> None:
    """What may be gone in its next release."""
    private = re.compile(r"\btorch(?:\.\w+)*\._[a-z]\w*")
    assert private.search("torch._nnpack_spatial_convolution(x)")
    found = [
        f"{path.name}: {use}"
        for path in sorted((ROOT / "b2inst").rglob("*.py"))
        for use in private.findall(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "script", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda path: path.stem
)
def test_scripts_import_what_there_is(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("b2inst"):
            if node.module == "b2inst.integrations.detectron2":
                pytest.importorskip("detectron2")
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module}.{name.name}"
