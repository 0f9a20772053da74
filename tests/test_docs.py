"""What README and docs show works: their commands can be called so, their Python runs."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import b2inst
from b2inst.cli import app
from b2inst.data import write_scenes
from b2inst.models import CATALOG, create_model
from b2inst.viz.video import SUFFIXES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


def _commands() -> list[tuple[str, list[str]]]:
    """Every call of ``b2inst`` in a console block, as its words."""
    found = []
    for page in PAGES:
        for block in _blocks(page, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if not re.match(r"\S*b2inst ", line):
                    continue
                words = shlex.split(line.split(" # ")[0].split("   ")[0])
                found.append((page.name, words[1:]))
    return found


COMMANDS = _commands()


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=str)
def test_a_command_can_be_called_so(page: str, words: list[str]) -> None:
    shown = any("[" in word or word.isupper() for word in words)  # a form to fill in
    command: Any = typer.main.get_command(app)
    name = "b2inst"
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    if not shown:
        command.make_context(name, list(words), resilient_parsing=False)


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives headings: letters, digits and hyphens, spaces as hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    for name, anchor in re.findall(r"\]\(([\w./]*)#([^)]+)\)", page.read_text("utf-8")):
        assert anchor in _anchors(page.parent / name if name else page), f"{name}#{anchor}"


def test_the_readmes_python(tmp_path: Path) -> None:
    (code,) = _blocks(ROOT / "README.md", "python")
    small = b2inst.create_model(
        "b2inst-blendmask-tiny", num_classes=2, shorter=None, longer_max=None
    )
    b2inst.save_model(small, tmp_path / "model.safetensors")
    code = re.sub(r'"[^"]*…[^"]*"', repr(str(tmp_path / "model.safetensors")), code)
    if find_spec("supervision") is None:
        code = code.replace(", result.to_supervision()", "")
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    names: dict[str, Any] = {"image": image}
    exec(compile(code, "README.md", "exec"), names)
    assert names["result"].masks.shape[1:] == (96, 96)


def test_the_python_of_the_page_on_data(tmp_path: Path) -> None:
    (code,) = _blocks(ROOT / "docs/data.md", "python")
    folder = tmp_path / "data"
    write_scenes(folder, split="train2017", images=2, size=48, seed=0)
    names: dict[str, Any] = {}
    code = code.replace('"DATA"', repr(str(folder))).replace("num_workers=4", "num_workers=0")
    exec(compile(code.replace("batch_size=16", "batch_size=1"), "data.md", "exec"), names)
    images, targets = next(iter(names["batches"]))
    assert len(images) == len(targets) == 1


def test_the_page_on_data_names_every_ending_of_a_video() -> None:
    (listed,) = re.findall(r"\*\*Videos\*\* \((.*?)\)", (ROOT / "docs/data.md").read_text("utf-8"))
    assert {ending.strip("`") for ending in listed.split(", ")} == SUFFIXES


def test_the_page_on_models_names_every_part() -> None:
    page = (ROOT / "docs/models.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+?)(?:-…)?`.*?\|(.*)$", page, flags=re.MULTILINE))
    names = {name.rsplit("-", 1)[0] for name in CATALOG if name.endswith("-tiny")}
    plain = {name for name in names if not name.startswith(("b2inst-", "gated-"))}
    assert plain | {"b2inst", "gated"} == {*rows}
    for name, row in rows.items():
        model = create_model(
            f"{name if name in plain else f'{name}-blendmask'}-tiny", num_classes=2
        )
        linked = set(re.findall(r"\[`(\w+)`\]\(\.\./b2inst/modules/(\w+)\.py\)", row))
        parts = {(type(p).__name__, type(p).__module__.split(".")[-1]) for p in model.children()}
        shared = {part for part in parts if part[1] in {"preprocessor", "backbones"}}
        inherited = set() if name in plain else {("FCOSHead", "fcos_head"), ("Blender", "blender")}
        assert linked == parts - shared - inherited, name


def test_the_python_of_the_page_on_models() -> None:
    (code,) = _blocks(ROOT / "docs/models.md", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "models.md", "exec"), names)
    assert names["model"].scoring_head is not None
