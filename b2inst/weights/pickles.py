"""Other people's checkpoints, read without running code in them.

A pickle is a program. Files of torch are read with ``weights_only=True``; pickled numpy arrays
(detectron2's and Caffe2's ``.pkl``, some of them written by Python 2) by an unpickler that builds
nothing but such arrays.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from b2inst.weights.errors import WeightsError

#: Types of numbers in arrays, by their codes in pickles.
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name, from a ``.pth`` of torch's or a ``.pkl`` of numpy arrays.

    Of a file that holds more (optimiser, author, …), only "model", "state_dict" or (in Caffe2's
    files) "blobs" is read. A prefix of all names, as DataParallel's "module." and Lightning's
    "model.", is removed.

    Raises:
        WeightsError: no such file, a damaged one, one that asks for anything but tensors and
            plain values, or one without tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        content = _read_pickle(path) if path.suffix == ".pkl" else _read_torch(path)
    except WeightsError:
        raise
    except Exception as error:  # damaged pickles raise anything
        if refused := re.search(r"GLOBAL (\S+)", str(error)):  # as torch says it
            raise _refusal(path, refused[1]) from error
        raise WeightsError(
            f"{path}: not a readable checkpoint: damaged, cut short or something else "
            f"({type(error).__name__}); download it again"
        ) from error
    for key in ("model", "state_dict", "blobs"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{path}: holds a {type(content).__name__} in place of tensors by name; give the file "
            "of a checkpoint"
        )
    tensors = {str(name): _tensor(value, name, path) for name, value in content.items()}
    for prefix in ("_orig_mod.", "module.", "model."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:  # torch does not compress
            raise WeightsError(
                f"{path}: would unpack to {unpacked} bytes, more than it is long, which torch's "
                "files never do; download it again from where it was published"
            )
    with torch.serialization.safe_globals(_NUMPY_VALUES):
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: Path) -> Any:
    return _ArrayUnpickler(path).load()


# Python's implementation, and from memory: C's, or a file, would allocate gigabytes for lengths
# that a few bytes only claim.
class _ArrayUnpickler(pickle._Unpickler):
    """Resolves the few names in pickled arrays to harmless stand-ins, and refuses all others."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.BytesIO(path.read_bytes()), encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise _refusal(self._path, f"{module}.{name}")
        return known


class _Dtype:
    """Stands in for numpy's, which crashes on damaged pickles."""

    order = "|"

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError(f"an array of {code!r}, not of numbers")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands in for numpy's for the same reason; its state gives the values."""

    values: np.ndarray | None = None

    def __init__(self, subtype: object, shape: object, typecode: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        number = np.dtype(dtype.code).newbyteorder(dtype.order)
        flat = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, number)
        if flat.size != math.prod(shape) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"{flat.size} numbers in an array of {shape}")
        self.values = flat.reshape(shape, order="F" if by_columns else "C")


def _latin1(text: str, encoding: str) -> bytes:
    """Stands in for ``codecs.encode``, with which Python 3 writes bytes for Python 2."""
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",  # a name only: nothing can be made of it
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
}

#: Schedulers and the like, saved beside the weights, may hold single numpy numbers.
_scalar = np.float64(0).__reduce__()[0]
_NUMPY_VALUES: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(code)) for code in sorted(_NUMBERS)),
]


def _tensor(value: object, name: object, path: Path) -> Tensor:
    if isinstance(value, _Array) and value.values is not None:
        native = value.values.dtype.newbyteorder("=")
        return torch.from_numpy(value.values.astype(native, order="C"))
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
        return value.detach()
    raise WeightsError(
        f"{path}: {name!r} is a {type(value).__name__} in place of a tensor of numbers; give the "
        "file of a checkpoint"
    )


def _refusal(path: Path, name: str) -> WeightsError:
    shown = name.encode("unicode_escape").decode()  # a damaged name may hold anything
    return WeightsError(
        f"{path}: asks for {shown}, which is more than tensors need and could run code; nothing "
        "was run; get the file from where it was published, or do without it"
    )
