"""Less memory for more time: activations that are computed again when the gradient needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck

_LARGE = 2**21  # numbers of a map that is worth it


def recompute_activations(model: nn.Module) -> None:
    """Let a model keep only what enters its residual blocks and rows of convolutions.

    What lies between is computed a second time in the backward pass. Losses and gradients are the
    same to the last bit, running statistics are updated once, and names of weights stay.
    """
    for unit in _units(model):
        again = partial(
            checkpoint,
            unit.forward,
            use_reentrant=False,
            context_fn=partial(_first_and_second, unit),
        )
        unit.forward = again


def recompute_normalised(model: nn.Module) -> None:
    """Let rows of convolutions, group norms and ReLUs keep large maps only once.

    What a norm and ReLU make of them is computed a second time, which takes next to no time. All
    numbers are the same to the last bit.
    """
    for row in model.modules():
        if isinstance(row, nn.Sequential) and any(isinstance(m, nn.GroupNorm) for m in row):
            layers = list(row)
            ends = [i for i, layer in enumerate(layers) if isinstance(layer, nn.GroupNorm)]
            ends.append(len(layers))
            # Not slices of the row: its class may take other arguments than layers.
            parts = [nn.Sequential(*layers[i:j]) for i, j in pairwise([0, *ends])]
            if all(len(part) == 3 for part in parts[1:-1]):
                row.forward = partial(_in_parts, parts)  # type: ignore[method-assign]


def _in_parts(parts: list[nn.Sequential], x: Tensor) -> Tensor:
    first, *middle, last = parts
    x = first(x)
    for part in middle:  # norm, ReLU and convolution, of which the last is not computed again
        large = x.requires_grad and x.numel() > _LARGE
        x = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False) if large else part(x)
    return last(x)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """The residual blocks, and the largest rows of more than one layer with convolutions."""
    for child in module.children():
        inside = list(child.modules())
        blocks = any(isinstance(m, BasicBlock | Bottleneck) for m in inside)
        row = isinstance(child, nn.Sequential) and len(child) > 1 and not blocks
        if isinstance(child, BasicBlock | Bottleneck) or (
            row and any(isinstance(m, nn.Conv2d) for m in inside)
        ):
            yield child
        else:
            yield from _units(child)


def _first_and_second(
    unit: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(unit)


@contextmanager
def _statistics_kept(unit: nn.Module) -> Iterator[None]:
    """Batch norm sees the same batch for the second time: it counts on copies."""
    kept = [
        (norm, name, buffer)
        for norm in unit.modules()
        if isinstance(norm, _BatchNorm)
        for name, buffer in norm.named_buffers(recurse=False)
    ]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
