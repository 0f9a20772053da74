"""A CUDA device where there is none: its tensors compute on the CPU, and refuse to meet others.

    with PretendedCuda():
        model.to("cuda")

Within, what says ``cuda`` is taken, and kept apart from the CPU as a GPU's driver would: a mix of
devices is PyTorch's own error, and so is NumPy's view of a tensor that is not in its memory. What
PyTorch allows is allowed: copies, numbers in zero-dimensional CPU tensors, CPU indices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)

#: The device under which PyTorch's C++ knows the pretended one: it asks no driver of its own.
_META = torch.device("meta")

_ATEN = torch.ops.aten
_COPIES = {_ATEN.copy_.default, _ATEN.copy.default, _ATEN._foreach_copy_.default}
_INDEXING = {
    _ATEN.index.Tensor,
    _ATEN.index_put.default,
    _ATEN.index_put_.default,
    _ATEN._index_put_impl_.default,
}
#: Beside what works element by element: these take a number in a CPU tensor.
_TAKE_NUMBERS = {_ATEN.fill_.Tensor, _ATEN.masked_fill.Tensor, _ATEN.masked_fill_.Tensor}


class CudaTensor(Tensor):
    """A tensor on the pretended device."""

    host: Tensor  #: its values

    @staticmethod
    def __new__(cls, host: Tensor) -> CudaTensor:
        with torch.inference_mode(host.is_inference()):  # as a view of a parameter is none
            made = Tensor._make_wrapper_subclass(
                cls,
                host.size(),
                strides=host.stride(),
                storage_offset=host.storage_offset(),
                dtype=host.dtype,
                device=_META,
            )
        made.host = host
        return made

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    def get_device(self) -> int:
        return 0

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {CUDA} device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def pin_memory(self, *_: Any) -> Tensor:
        raise RuntimeError("cannot pin a CUDA tensor: only dense CPU tensors can be pinned")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.host.__reduce_ex__(protocol)  # files are read back onto the CPU

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.detach().clone().requires_grad_(self.requires_grad)

    def __repr__(self, **_: Any) -> str:
        return f"{self.host!r} on {CUDA}"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class PretendedCuda(TorchFunctionMode):
    """Within this context there is a CUDA device, as far as tensors are concerned."""

    def __init__(self) -> None:
        self._below = _Below()

    def __enter__(self) -> PretendedCuda:
        self._below.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._below.__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tuple(map(_renamed, args)), dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = _named(kwargs["device"])
        if func is Tensor.to and not kwargs:
            like = args[1] if isinstance(args[1], Tensor) else None
            args = (args[0], _named(args[1])) if like is None else (args[0], *_kind(like))
        if func is Tensor.cuda:
            return args[0].to(_META)
        if func is Tensor.new_tensor:
            device, dtype = _kind(args[0])
            func, args = torch.tensor, args[1:]
            kwargs = {"dtype": dtype, "device": device} | kwargs
        if func is F.embedding_bag and args[0].dim() == 2:  # makes its offsets out of our sight
            bags, per_bag = args[0].flatten(), args[0].shape[1]
            kwargs["offsets"] = torch.arange(0, len(bags), per_bag).to(_META)
            kwargs["per_sample_weights"] = kwargs["per_sample_weights"].flatten()
            args = (bags, *args[1:])
        if func in {Tensor.__getitem__, Tensor.__setitem__}:
            args = (args[0], _listed(args[1]), *args[2:])
        if func in {torch.tensor, torch.as_tensor} and kwargs.get("device") == _META:
            return func(*args, **kwargs | {"device": "cpu"}).to(_META)  # meta would drop values
        return func(*args, **kwargs)


class _Below(TorchDispatchMode):
    """Also for what has no tensor among its arguments, and what C++ calls."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class Forgetful(TorchFunctionMode):
    """Notes where the package says on which device a tensor is to be, and forgets it at a place.

    Args:
        at: file and line whose tensors are left on the CPU; None only takes notes.
    """

    def __init__(self, at: tuple[str, int] | None = None) -> None:
        super().__init__()
        self.at = at
        self.places: set[tuple[str, int]] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        told = func is Tensor.to or func.__name__.startswith("new_") or "device" in (kwargs or {})
        if not (told and isinstance(result, CudaTensor) and result.dim()):
            return result
        caller = sys._getframe(1)
        place = (caller.f_code.co_filename, caller.f_lineno)
        self.places.add(place)
        return result.cpu() if place == self.at else result


def _named(device: Any) -> Any:
    return _META if str(device).partition(":")[0] == "cuda" else device


def _renamed(value: Any) -> Any:
    return _named(value) if isinstance(value, torch.device) else value


def _listed(index: Any) -> Any:
    """An index whose lists are CPU tensors; meta would drop what is in a list."""
    if isinstance(index, tuple):
        return tuple(map(_listed, index))
    return torch.tensor(index) if isinstance(index, list) and index else index


def _kind(tensor: Tensor) -> tuple[torch.device, torch.dtype]:
    return _named(tensor.device), tensor.dtype


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU what is asked of either device."""
    ours: dict[int, Tensor] = {}  # by their values
    theirs: list[Tensor] = []
    wanted: list[torch.device] = []

    def taken(value: Any) -> Any:
        if isinstance(value, CudaTensor):
            ours[id(value.host)] = value
            return value.host
        if isinstance(value, Tensor):
            theirs.append(value)
        if isinstance(value, torch.device):
            wanted.append(value)
            return torch.device("cpu")
        return value

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in same:
            if not wanted:
                return same[id(value)]
            value = value.clone()
        return CudaTensor(value) if on_cuda else value

    host_args, host_kwargs = mapped(taken, args), mapped(taken, kwargs)
    if ours and theirs:
        _refuse_mixture(func, args, theirs)
    on_cuda = wanted == [_META] if wanted else bool(ours)
    same = ours | {id(value): value for value in theirs}  # what is written in place comes back
    return mapped(placed, func(*host_args, **host_kwargs))


def mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """What is in lists, dictionaries and dataclasses, changed one by one."""
    if isinstance(value, dict):
        return {key: mapped(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [mapped(change, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value):
        return replace(
            value, **{f.name: mapped(change, getattr(value, f.name)) for f in fields(value)}
        )
    return change(value)


def _refuse_mixture(func: Any, args: Any, theirs: list[Tensor]) -> None:
    if func in _COPIES:
        return
    first = args[0]
    if isinstance(first, CudaTensor) or not func._schema.is_mutable:
        # What is written lies on the device, or is new.
        others = theirs
        if func in _INDEXING and isinstance(first, CudaTensor):
            indices = {id(index) for index in args[1]}
            others = [value for value in theirs if id(value) not in indices]
        numbers = torch.Tag.pointwise in func.tags or func in _TAKE_NUMBERS | _INDEXING
        if not others or (numbers and all(value.dim() == 0 for value in others)):
            return
    raise RuntimeError(
        f"{func}: Expected all tensors to be on the same device, but found at least two devices, "
        f"{CUDA} and cpu!"
    )
