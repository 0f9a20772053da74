"""A remedy that a message names is one that exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import b2inst
from b2inst.cli import app

PACKAGE = Path(b2inst.__file__).parent

#: Programs that are not ours, whose options messages may name.
OTHERS = {"--no-python", "--format"}  # torchrun's, sacct's


def options() -> dict[str, set[str]]:
    """The options of each command."""
    found: dict[str, set[str]] = {}

    def walk(command: object, name: str) -> None:
        for child_name, child in getattr(command, "commands", {}).items():
            walk(child, f"{name} {child_name}".strip())
        parameters = getattr(command, "params", [])
        found[name] = {o for p in parameters for o in (*p.opts, *p.secondary_opts)}

    walk(typer.main.get_command(app), "")
    return found


def told(file: Path) -> Iterator[tuple[int, str]]:
    """Options in the sentences of a module's strings, but for its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if " " in node.value.strip() and id(node) not in docstrings:
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z0-9]", node.value):
                yield node.lineno, option


FILES = sorted(p for p in PACKAGE.rglob("*.py") if any(True for _ in told(p)))


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_options_in_messages_exist(file: Path) -> None:
    known = set().union(*options().values()) | OTHERS
    unknown = [f"{file.name}:{line} {o}" for line, o in told(file) if o not in known]
    assert not unknown


@pytest.mark.parametrize(
    ("option", "commands"),
    [
        # Reading data or images is common to these, and so are its messages.
        (
            "--skip-bad",
            ["train", "table", "figures", "eval", "predict", "submit", "compare", "bench"],
        ),
        ("--crowds-as-instances", ["data check", "train", "table", "figures", "eval", "compare"]),
        *(
            (o, ["train", "table", "figures", "eval", "predict", "compare"])
            for o in ("--val-fraction", "--val-split", "--train-split")
        ),
        ("--overwrite", ["eval", "predict", "submit", "bench", "convert"]),
        ("--names", ["convert"]),
    ],
)
def test_commands_that_can_tell_of_an_option_have_it(option: str, commands: list[str]) -> None:
    known = options()
    assert [name for name in commands if option not in known[name]] == []
