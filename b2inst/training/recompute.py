"""Gradient checkpointing: activations are recomputed in the backward pass to save memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck

_LARGE = 2**21  # elements of a map that is worth recomputing


def recompute_activations(model: nn.Module) -> None:
    """Keep only the inputs of residual blocks and sequences of convolutions, in place.

    Losses and gradients are bitwise equal, and running statistics are updated once.
    """
    _restore(model)
    for unit in _units(model):
        contexts = partial(_contexts, unit)
        unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, context_fn=contexts)


def _restore(model: nn.Module) -> None:
    """Undo what an earlier call has chosen; a ``forward`` of the caller's own stays."""
    for module in model.modules():
        ours = vars(module).get("forward")
        if isinstance(ours, partial) and ours.func in (checkpoint, _forward_parts):
            del module.forward


def _contexts(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Those of the first and of the second time; no lambda, so that models can be pickled."""
    return nullcontext(), _statistics_kept(unit)


def recompute_normalised(model: nn.Module) -> None:
    """Recompute large outputs of group norms and ReLUs between convolutions, in place."""
    _restore(model)
    for sequence in model.modules():
        if isinstance(sequence, nn.Sequential):
            layers = list(sequence)
            norms = [i for i, layer in enumerate(layers) if isinstance(layer, nn.GroupNorm)]
            # Not slices of the sequence: its class may take other arguments than layers.
            parts = [nn.Sequential(*layers[i:j]) for i, j in pairwise([0, *norms, len(layers)])]
            if norms and all(len(part) == 3 for part in parts[1:-1]):
                sequence.forward = partial(_forward_parts, parts)  # type: ignore[method-assign]


def _forward_parts(parts: list[nn.Sequential], x: Tensor) -> Tensor:
    first, *middle, last = parts
    x = first(x)
    for part in middle:  # norm, ReLU and convolution, of which the last is not recomputed
        large = x.requires_grad and x.numel() > _LARGE
        x = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False) if large else part(x)
    return last(x)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Residual blocks, and the largest sequences of several layers with convolutions."""
    for child in module.children():
        inside = list(child.modules())
        blocks = any(isinstance(m, BasicBlock | Bottleneck) for m in inside)
        sequence = isinstance(child, nn.Sequential) and len(child) > 1 and not blocks
        if isinstance(child, BasicBlock | Bottleneck) or (
            sequence and any(isinstance(m, nn.Conv2d) for m in inside)
        ):
            yield child
        else:
            yield from _units(child)


@contextmanager
def _statistics_kept(unit: nn.Module) -> Iterator[None]:
    """Let batch norms update copies of their running statistics."""
    norms = [module for module in unit.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm, *item) for norm in norms for item in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
