"""Which code made a number: a fingerprint that comments and layout do not change."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

import b2inst

#: What decides the weights of a run, and with them its predictions.
TRAINING_CODE = ("structures.py", "ops", "losses.py", "modules", "models", "data", "training")

#: What decides the metrics of given predictions.
EVALUATION_CODE = ("ops", "evaluation")

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_fingerprint(parts: tuple[str, ...], package: Path = Path(b2inst.__file__).parent) -> str:
    """Twelve hexadecimal digits over the parts' syntax trees, without docstrings and comments.

    Args:
        parts: files and folders below ``package``; those not there count as empty.
    """
    digest = hashlib.sha256()
    for part in parts:
        path = package / part
        files = [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
        for file in files:
            if file.is_file():
                digest.update(f"\0{file.relative_to(package).as_posix()}\0".encode())
                digest.update(_essence(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def _essence(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    # Unparsed rather than dumped: a dump's form changes with the Python version.
    return ast.unparse(tree)
