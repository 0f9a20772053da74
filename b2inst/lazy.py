"""Packages whose names are imported on first use, so that light uses stay light."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Define ``__getattr__`` and ``__dir__`` (PEP 562) by the imports under ``if TYPE_CHECKING``.

    Args:
        package: ``__name__`` of the package, where ``__all__`` is defined too, if it is not.
            None of the names may be that of a submodule.
        file: ``__file__`` of the package.
    """
    modules = {
        name.name: node.module
        for block in ast.parse(Path(file).read_text("utf-8")).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }
    module = sys.modules[package]
    vars(module).setdefault("__all__", sorted(modules))

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return load, lambda: sorted({*vars(module), *modules})
