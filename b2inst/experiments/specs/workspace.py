"""Where specs are read from and where runs, data and results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import b2inst
from b2inst.experiments.specs.errors import SpecError

_SPECS = "experiments"


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
            if (folder / _SPECS / "profiles").is_dir():
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

    def spec_file(self, name: str, *, kind: str) -> Path:
        """The YAML file meant by ``name``: a path, or a name to be found in ``experiments/``.

        Args:
            name: "tiny", "table1", or a path ending in .yaml.
            kind: folder below ``experiments/``: "" for tables, "profiles".

        Raises:
            SpecError: there is none; lists those there are.
        """
        if name.endswith((".yaml", ".yml")):
            if Path(name).is_file():
                return Path(name)
            raise SpecError(f"{name}: no such file")
        folders = [self.root / _SPECS / kind, Path(b2inst.__file__).parents[1] / _SPECS / kind]
        for folder in folders:
            if (folder / f"{name}.yaml").is_file():
                return folder / f"{name}.yaml"
        known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
        what = kind.removesuffix("s") or "table"
        raise SpecError(f"no {what} '{name}'; there are {', '.join(known) or 'none here'}")

    def shown(self, path: Path) -> str:
        """``path`` as it is printed: relative to the root where it lies below it."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
