"""Other projects' checkpoints, read without running code in them.

A pickle is a program. Files of torch are read with ``weights_only=True``; pickled numpy arrays
(detectron2's and Caffe2's ``.pkl``, some of them written by Python 2) by an unpickler that builds
nothing but such arrays.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from b2inst.weights.errors import WeightsError

#: Types of numbers in arrays, by their codes in pickles.
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a ``.pth`` of torch's or a ``.pkl`` of numpy arrays.

    Of a file that has more (optimiser, author, …), only "model", "state_dict" or (in Caffe2's
    files) "blobs" is read. A prefix of all names, as DataParallel's "module." and Lightning's
    "model.", is removed.

    Raises:
        WeightsError: The file is missing or damaged, needs anything but tensors and plain values,
            or has no tensors by name.
    """
    if not path.is_file():
        what = "is a folder; name a checkpoint in it" if path.is_dir() else "no such weights file"
        raise WeightsError(f"{path}: {what}")
    refuse_page(path)
    try:
        if path.suffix.lower() == ".pkl":
            content = _ArrayUnpickler(BytesIO(path.read_bytes()), encoding="latin1").load()
        else:
            with torch.serialization.safe_globals(_NUMPY_VALUES):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles cause errors of any type
        why = f"not a readable checkpoint ({type(error).__name__}); download it again"
        if refused := re.search(r"GLOBAL (\S+)", str(error)):  # in torch's words
            why = f"asks for {refused[1]}, which could run code; nothing was run; get another file"
        raise WeightsError(f"{path}: {why}") from error
    for key in ("model", "state_dict", "blobs"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{path}: holds a {type(content).__name__} in place of tensors by name; give another"
        )
    tensors = {str(name): _tensor(value, name, path) for name, value in content.items()}
    for prefix in ("_orig_mod.", "module.", "model."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def refuse_page(path: Path) -> None:
    """Raise WeightsError if a file is a web page, as where a link does not lead to the weights."""
    with path.open("rb") as file:
        if re.match(rb"\s*<[!?\w][\w-]", file.read(99)):
            raise WeightsError(f"{path}: an HTML page, not weights; download the file itself")


# Python's implementation: C's would allocate gigabytes for lengths that a few bytes only claim.
class _ArrayUnpickler(pickle._Unpickler):
    """Resolves the few names in pickled arrays to harmless stand-ins, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            shown = f"{module}.{name}".encode("unicode_escape").decode()  # may be anything
            raise pickle.UnpicklingError(f"GLOBAL {shown}")
        return known


class _Dtype:
    """Stands in for numpy's, which crashes on damaged pickles."""

    order = "|"

    def __init__(self, code: str, *_: object) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError(f"an array of {code!r}, not of numbers")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands in for numpy's for the same reason; its state gives the values."""

    values: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        number = np.dtype(dtype.code).newbyteorder(dtype.order)
        flat = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, number)
        if flat.size != math.prod(shape) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"{flat.size} numbers in an array of {shape}")
        self.values = flat.reshape(shape, order="F" if by_columns else "C")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",  # a name only: nothing can be made of it
    ("numpy", "dtype"): _Dtype,
    # With this, Python 3 writes bytes for Python 2.
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
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
        f"{path}: {name!r} is a {type(value).__name__} in place of a tensor of numbers; give a "
        "checkpoint of weights alone"
    )
