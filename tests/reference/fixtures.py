"""Reference fixtures: what a published implementation computed from stored inputs."""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.errors import VerificationError

#: Whose inputs a family's cases have where they are not its own.
_INPUTS = dict.fromkeys(("condinst", "pointrend", "centermask"), "blendmask")

#: ``<family>_<what>_seed<number>``; all cases of a family share their inputs.
_NAME = re.compile(r"(?P<spec>(?P<family>[a-z]+)_\w+)_seed(?P<seed>\d+)")


@dataclass(frozen=True)
class Case:
    """One published model with one set of weights, and everything stored about it."""

    name: str
    source: Path  #: the arrays' file, for messages
    seed: int  #: of the weights
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]  #: losses, gradient norms and other numbers that are no arrays
    inputs: dict[str, NDArray[Any]]  #: images and ground truth
    inputs_source: Path
    images: list[dict[str, Any]]  #: facts about each image
    spec: dict[str, Any]  #: shape and kind of every weight, by published name
    spec_source: Path

    def like(self, name: str, ours: NDArray[Any]) -> NDArray[Any]:
        """A published array that others are compared by; where it is of no use, ours."""
        published = self.arrays.get(name, ours)
        kinds = {array.dtype.kind.replace("u", "i") for array in (published, ours)}
        return published if published.shape == ours.shape and len(kinds) == 1 else ours


def list_cases(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the cases in a folder of reference fixtures.

    Raises:
        VerificationError: no such folder, or no case in it.
    """
    if not Path(folder).is_dir():
        raise VerificationError(f"{folder}: no such folder; give the folder of reference fixtures")
    files = [path for path in Path(folder).iterdir() if path.suffix in (".npz", ".json")]
    cases = sorted({path.stem for path in files if _NAME.fullmatch(path.stem)})
    if not cases:
        raise VerificationError(
            f"{folder}: holds no case; give the folder with <case>_seed<number>.npz and .json"
        )
    return cases


def family(name: str) -> str:
    """The first word of a case's name, which says what kind of model it is."""
    return name.split("_")[0]


def read_case(folder: str | os.PathLike[str], name: str) -> Case:
    """Read a case with its inputs and the spec of its weights.

    Raises:
        VerificationError: an unknown case, or a file that is missing or damaged.
    """
    cases = list_cases(folder)
    match = _NAME.fullmatch(name)
    if match is None or name not in cases:
        raise VerificationError(f"no case '{name}' in {folder}; cases there: {', '.join(cases)}")
    folder = Path(folder)
    source, spec_source = folder / f"{name}.npz", folder / f"{match['spec']}_spec.json"
    inputs = folder / f"{_INPUTS.get(match['family'], match['family'])}_inputs.npz"
    return Case(
        name=name,
        source=source,
        seed=int(match["seed"]),
        arrays=_read_arrays(source),
        facts=_read_json(source.with_suffix(".json"), dict),
        inputs=_read_arrays(inputs),
        inputs_source=inputs,
        images=_read_json(inputs.with_suffix(".json"), list),
        spec=read_spec(spec_source),
        spec_source=spec_source,
    )


def read_spec(path: Path) -> dict[str, Any]:
    """Shape and kind of every weight, by published name.

    Raises:
        VerificationError: a file that is missing or damaged.
    """
    spec: dict[str, Any] = _read_json(path, dict)
    return spec


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    _check_there(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise _damaged(path, error) from error


def _read_json(path: Path, kind: type) -> Any:
    _check_there(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, kind):
        raise _damaged(path, f"a {kind.__name__} is expected at the top")
    return content


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise VerificationError(f"{path}: no such file; fetch the reference fixtures again")


def _damaged(path: Path, why: object) -> VerificationError:
    return VerificationError(f"{path}: damaged ({why}); fetch the reference fixtures again")
