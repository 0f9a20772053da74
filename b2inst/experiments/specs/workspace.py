"""Where specs are read from and where runs, data and results go."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Self

from b2inst.experiments.specs.errors import SpecError


def shipped(folder: str) -> Path:
    """Return the folder "experiments" or "notebooks" of the checkout, or of the installed wheel."""
    package = Path(str(files("b2inst")))
    installed = package / "_data" / folder
    return installed if installed.is_dir() else package.parent / folder


class Workspace:
    """The folders of one place of work.

    ``runs/`` (weights, predictions), ``data/`` (procedural scenes) and ``results/local/`` (tables
    and figures) are written. The published tables lie in ``results/``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs, self.data, self.published = root / "runs", root / "data", root / "results"
        self.results = self.published / "local"

    @classmethod
    def here(cls) -> Self:
        """Return the checkout that the current folder is in, else the current folder."""
        current = Path.cwd()
        folders = (current, *current.parents)
        found = (f for f in folders if (f / "experiments" / "profiles").is_dir())
        return cls(next(found, current))

    def specs(self, kind: str = "") -> dict[str, Path]:
        """Return YAML files of tables or "profiles" by name, b2inst's where there are no own."""
        folders = (shipped("experiments") / kind, self.root / "experiments" / kind)
        found = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
        return dict(sorted(found.items()))

    def spec_file(self, name: str, *, kind: str) -> Path:
        """Return the YAML file of a name ("tiny", "table1") or path; ``kind`` as in ``specs``."""
        specs = self.specs(kind)
        if name.endswith((".yaml", ".yml")):
            path = Path(name)
            if not path.is_file():
                raise SpecError(f"{name}: no such file")
            if (other := specs.get(path.stem, path)) and not other.samefile(path):
                raise SpecError(f"{name}: results of {other} have this name, too; rename the file")
            return path
        if name not in specs:
            what = kind.removesuffix("s") or "table"
            raise SpecError(f"no {what} '{name}'; there are {', '.join(specs)}")
        return specs[name]

    def notebook(self, name: str) -> Path:
        """Return a notebook of ``notebooks/``, or b2inst's own of this name."""
        own = self.root / "notebooks" / name
        return own if own.is_file() else shipped("notebooks") / name

    def shown(self, path: Path) -> str:
        """Return ``path`` as it is printed: relative to the root where it lies below it."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
