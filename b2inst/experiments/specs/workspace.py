"""Where specs are read from and where runs, data and results go."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

from b2inst.experiments.specs.errors import SpecError


def shipped(folder: str) -> Path:
    """Return the folder "experiments" or "notebooks" of the checkout, or of the installed wheel."""
    package = Path(str(files("b2inst")))
    installed = package / "_data" / folder
    return installed if installed.is_dir() else package.parent / folder


@dataclass(frozen=True)
class Workspace:
    """The folders of one place of work.

    Args:
        root: where ``runs/`` (weights, predictions), ``data/`` (procedural scenes) and
            ``results/local/`` (tables and figures) are made. The published tables lie in
            ``results/``; what is run does not touch them.
    """

    root: Path

    @classmethod
    def here(cls) -> Self:
        """The checkout that the current folder is in, else the current folder.

        Notebooks are started in ``notebooks/``, make targets one above; both mean the same.
        """
        current = Path.cwd()
        for folder in (current, *current.parents):
            if (folder / "experiments" / "profiles").is_dir():
                return cls(folder)
        return cls(current)

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def results(self) -> Path:
        """Of this machine."""
        return self.published / "local"

    @property
    def published(self) -> Path:
        return self.root / "results"

    def specs(self, kind: str = "") -> dict[str, Path]:
        """YAML files by name: those of ``experiments/``, and b2inst's own where it has none.

        Args:
            kind: The folder below ``experiments/``: "" for tables, "profiles".
        """
        folders = (shipped("experiments") / kind, self.root / "experiments" / kind)
        found = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
        return dict(sorted(found.items()))

    def spec_file(self, name: str, *, kind: str) -> Path:
        """Return the YAML file of a table or profile.

        Args:
            name: "tiny", "table1", or a path ending in .yaml.
            kind: As in ``specs``.

        Raises:
            SpecError: There is none; the message lists those there are.
        """
        if name.endswith((".yaml", ".yml")):
            if Path(name).is_file():
                return Path(name)
            raise SpecError(f"{name}: no such file")
        specs = self.specs(kind)
        if name not in specs:
            what = kind.removesuffix("s") or "table"
            raise SpecError(f"no {what} '{name}'; there are {', '.join(specs)}")
        return specs[name]

    def notebook(self, name: str) -> Path:
        """Return a notebook of ``notebooks/``, or b2inst's own of this name."""
        own = self.root / "notebooks" / name
        return own if own.is_file() else shipped("notebooks") / name

    def shown(self, path: Path) -> str:
        """``path`` as it is printed: relative to the root where it lies below it."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
