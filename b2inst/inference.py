"""Faster networks for prediction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from b2inst.modules.backbones import FrozenNorm

#: Precision of convolutions and linear layers; boxes, scores and masks are always float32.
Precision = Literal["float32", "bfloat16"]

_TILES = 400  # Winograd tiles multiplied at once: many for each weight, yet in the cache
_TRANSFORMS: tuple[list[list[float]], ...] = (  # Bᵀ, G and Aᵀ of F(4×4, 3×3), Lavin & Gray's
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
)


class DeviceError(ValueError):
    """A device that this machine does not have."""


def resolve_device(name: str) -> str:
    """Return "cuda" or "cpu" for "auto"; DeviceError if this machine lacks another one."""
    if name not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", name):
        raise DeviceError(f"device {name}: choose auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(
            f"device {name}: PyTorch finds no GPU here; choose auto or cpu, or check the driver"
        )
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_precision(name: str, device: torch.device) -> Precision:
    """Resolve "auto": bfloat16 if the device has instructions for it, else float32."""
    if name not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision {name!r}: choose auto, float32 or bfloat16")
    if name != "auto":
        return "float32" if name == "float32" else "bfloat16"
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if fast else "float32"


@contextmanager
def fast_network(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Context in which the parts of a model, called without gradients, use a ``FastNetwork``.

    It is made again if a parameter or buffer is replaced or modified in place. After changes that
    PyTorch does not count (``.data``, fused optimisers), call ``forget_network``.
    """
    tensors = [*model.parameters(), *model.buffers()]
    versions = (None if tensor.is_inference() else tensor._version for tensor in tensors)
    state = [precision, *versions, *((id(tensor), tensor.data_ptr()) for tensor in tensors)]
    known, network = _made.get(model, (None, None))
    if network is None or known != state:
        network = FastNetwork(model, getattr(torch, precision))
        _made[model] = state, network
    with autocast(tensors[0].device, precision), network:
        yield


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which convolutions and linear layers have a precision."""
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def forget_network(model: nn.Module) -> None:
    """Discard the network of a model; the next ``fast_network`` creates it again."""
    _made.pop(model, None)


#: By model: the state of its parameters and buffers, and the network made of them.
_made: WeakKeyDictionary[nn.Module, tuple[list[Any], FastNetwork]] = WeakKeyDictionary()


class FastNetwork(TorchFunctionMode):
    """Mode that replaces convolutions of a model, which is not modified, by faster ones.

    Batch norms are fused into the preceding convolutions. On a CPU, maps are in channels-last
    format and wide 3×3 convolutions in float32 use a quarter of the multiplications (``winograd``).
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._convs: dict[int, Callable[[Tensor], Tensor]] = {}
        self._norms: set[int] = set()
        for parent in model.modules():
            # A norm that is registered after a convolution is applied after it.
            children: list[Any] = [*parent.children(), None]
            for conv, norm in pairwise(children):
                if type(conv) is nn.Conv2d:
                    fused = isinstance(norm, nn.BatchNorm2d | FrozenNorm)
                    self._convs[id(conv.weight)] = _Conv(conv, norm if fused else None, dtype)
                    if fused:
                        self._norms.add(id(norm.running_mean))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        of = id(args[1]) if len(args) > 1 else None  # a weight, or a mean
        if func is F.conv2d and of in self._convs:
            return self._convs[of](args[0])
        if func is F.batch_norm and of in self._norms:
            return args[0]
        return func(*args, **(kwargs or {}))


class _Conv:
    """A convolution, fused with the following norm, if any."""

    @torch.no_grad()
    def __init__(self, conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> None:
        weight, bias = conv.weight, conv.bias
        if norm is not None:
            statistics = (norm.running_mean, norm.running_var, norm.eps)
            weight, bias = fuse_conv_bn_weights(weight, bias, *statistics, norm.weight, norm.bias)
        on_cpu = weight.device.type == "cpu"
        last = on_cpu or dtype != torch.float32
        layout = torch.channels_last if last else torch.preserve_format
        self.geometry: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.winograd = on_cpu and dtype == weight.dtype == torch.float32 and _pays(conv)
        self.weight = weight.detach().to(dtype, memory_format=layout)

    def __call__(self, x: Tensor) -> Tensor:
        # Tiles of many small maps (RoIs) are mostly outside.
        if self.winograd and (len(x) < 8 or x.shape[2:].numel() >= 400):
            return winograd(x, self.weight, self.bias)
        return F.conv2d(x.to(self.weight.dtype), self.weight, self.bias, *self.geometry)


def _pays(conv: nn.Conv2d) -> bool:
    """Whether Winograd's transforms take less time than the products they save."""
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    products, sides = conv.in_channels * conv.out_channels, conv.in_channels + conv.out_channels
    return geometry == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and 96 * sides <= products <= 2**17


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute a 3×3 convolution of stride and padding 1 (Lavin & Gray, CVPR 2016).

    Maps are float32 on a CPU. A tile of 4×4 cells takes 36 instead of 144 multiplications per pair
    of channels. Results differ by about 1e-5 of the largest value.
    """
    wide_out, wide_in = weight.shape[:2]
    height, width = x.shape[2:]
    bias = x.new_zeros(wide_out) if bias is None else bias
    of_tile, of_weight, of_result = (
        torch.kron(matrix, matrix) for matrix in map(x.new_tensor, _TRANSFORMS)
    )
    filters = (of_weight @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, wide_in, wide_out)
    down, across = -(-height // 4), -(-width // 4)  # tiles
    rows = max(1, min(len(x) * down, _TILES // across))  # of tiles that are multiplied at once
    result = x.new_empty(len(x), 4 * down, 4 * across, wide_out)
    # Buffers are reused, since the system clears new memory.
    strip = x.new_zeros(6, 4 * across + 2, wide_in)
    overlapping = strip.unfold(1, 6, 4).permute(0, 3, 1, 2)
    tiles = x.new_empty(overlapping.shape)
    transformed = x.new_empty(36, rows, across * wide_in)
    products = x.new_empty(36, rows, across * wide_out)
    cells = x.new_empty(16, across * wide_out)
    channels_last, bands = x.permute(0, 2, 3, 1), result.view(len(x) * down, 4, across, 4, wide_out)
    for first in range(0, len(bands), rows):
        first = min(first, len(bands) - rows)  # the last ones overlap
        for row in range(rows):
            image, band = divmod(first + row, down)
            top = 4 * band - 1
            seen = channels_last[image, max(top, 0) : top + 6]
            strip[0] = 0
            strip[len(seen) :] = 0
            strip[max(-top, 0) :][: len(seen), 1 : width + 1] = seen
            tiles.copy_(overlapping)
            torch.mm(of_tile, tiles.view(36, -1), out=transformed[:, row])
        torch.bmm(transformed.view(36, -1, wide_in), filters, out=products.view(36, -1, wide_out))
        for row in range(rows):
            torch.mm(of_result, products[:, row], out=cells)
            found = cells.view(4, 4, across, wide_out).transpose(1, 2)
            torch.add(found, bias, out=bands[first + row])
    return result[:, :height, :width].permute(0, 3, 1, 2)
