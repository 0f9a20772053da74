"""The weights that a run starts from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.yaml_spec import Spec


class StartFile(Spec):
    """A weights file, by what it holds; where it lies is no part of what a run is."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """A file as it is now.

        Raises:
            SpecError: there is no such file.
        """
        return cls(path=path.resolve(), sha256=_digest(path))

    def unchanged(self) -> Path:
        """Where the file lies.

        Raises:
            SpecError: it is gone, or holds something else than when the run was begun.
        """
        if _digest(self.path) != self.sha256:
            raise SpecError(
                f"{self.path}: is not the file that the run was begun with; put that back, or "
                "begin another run with --start"
            )
        return self.path


def _digest(path: Path) -> str:
    if not path.is_file():
        raise SpecError(f"{path}: no such weights file to start from")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
