"""Starting a model from the weights of another: the baseline's, or a backbone's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b2inst.models import Segmenter, with_bases
from b2inst.modules.blender import Blender
from b2inst.weights.detectron2 import imagenet_resnet
from b2inst.weights.errors import WeightsError
from b2inst.weights.exported import RUNTIMES
from b2inst.weights.files import model_card, read_weights
from b2inst.weights.names import grouped
from b2inst.weights.pickles import read_checkpoint

#: Attention logit of a new basis: if the four others' are 0, softmax gives it 0.5 % of the mask,
#: and it still has a gradient.
NEW_ATTENTION = -4.0

#: Options that a model must share with the file it starts from.
_SHARED_OPTIONS = ("num_bases", "attention_size", "msra", "frozen_norm")


@dataclass(frozen=True)
class Start:
    """Names of the tensors that were copied; as text, a line each."""

    path: Path
    copied: tuple[str, ...]  #: ours
    widened: tuple[str, ...]  #: ours with additional rows, for one more basis
    fresh: tuple[str, ...]  #: ours that are not in the file
    unused: tuple[str, ...]  #: the file's that are not in the model

    def counts(self) -> dict[str, int]:
        """Number of tensors of each kind."""
        return {kind: len(names) for kind, names in vars(self).items() if kind != "path"}

    def __str__(self) -> str:
        return (
            f"{self.path}: {len(self.copied)} tensors are the start\n"
            f"  widened: {grouped(self.widened) or 'none'}\n"
            f"  fresh: {_by_part(self.fresh)}\n"
            f"  not used: {_by_part(self.unused)}"
        )


def start_from(model: Segmenter, path: str | os.PathLike[str]) -> Start:
    """Copy every tensor that fits by name and shape into a model that is to be trained.

    A model with a boundary basis can start from a baseline: the convolution of the coefficients
    gets the file's rows, and those of the new basis are 0, so that masks do not change. In
    BlendMask's softmax 0 would change them: there the bias is ``NEW_ATTENTION``.

    Args:
        model: Model that gets the tensors.
        path: Our own weights file, or detectron2's ImageNet weights of a ResNet (``.pkl``).

    Raises:
        WeightsError: The file cannot be read, or has another backbone.
    """
    path = Path(path)
    msra = start_options(path).get("msra", False)
    if path.suffix.lower() == ".pkl":
        tensors = imagenet_resnet(read_checkpoint(path), source=str(path))
    else:
        tensors = read_weights(path)[1]
    if msra != model.recipe.get("options", {}).get("msra", False):
        raise WeightsError(
            f"{path}: was trained {'in' if msra else 'without'} detectron2's arrangement, BGR and "
            f"stride in the 1×1; build the model with msra={str(msra).lower()}"
        )
    own = model.state_dict()
    theirs = {_own_name(name, own): name for name in tensors}
    copied, widened = [], []
    with torch.no_grad():
        for name in (name for name in own if name in theirs):
            source, target = tensors[theirs[name]], own[name]
            if source.shape == target.shape:
                target.copy_(source)
                copied.append(name)
            elif (new := _new_rows(name, source, target, model)) is not None:
                target[~new] = source.to(target)
                if name.startswith("instance_head.coefficients."):
                    softmax = isinstance(with_bases(model).assembler, Blender)
                    target[new] = NEW_ATTENTION if softmax and name.endswith(".bias") else 0.0
                widened.append(name)
    used = {theirs[name] for name in (*copied, *widened)}
    fresh = [name for name in own if theirs.get(name) not in used]
    unused = [name for name in tensors if name not in used]
    fresh, unused = ([n for n in names if "num_batches" not in n] for names in (fresh, unused))
    for found, names in (("nothing for", fresh), ("no place for", unused)):
        if body := [n for n in names if n.startswith("backbone.") and ".fpn." not in n]:
            raise WeightsError(
                f"{path}: its backbone is not that of {model.recipe.get('name', 'the model')}: "
                f"{found} {grouped(body)}; start from a model with the same backbone"
            )
    return Start(path, tuple(copied), tuple(widened), tuple(fresh), tuple(unused))


def start_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Options of a model that is to start from a file; raises as ``start_from``."""
    path = Path(path)
    if path.suffix.lower() == ".pkl":
        return {"msra": True, "frozen_norm": True}
    if path.suffix.lower() in RUNTIMES:
        raise WeightsError(f"{path}: an exported model cannot be trained; give a .safetensors file")
    options = model_card(path)["options"]
    return {name: options[name] for name in _SHARED_OPTIONS if name in options}


def _own_name(name: str, own: dict[str, Tensor]) -> str:
    """With a boundary, the baseline's basis head is nested in another."""
    inner = name.replace("basis_head.", "basis_head.basis_head.", 1)
    return inner if name not in own and inner in own else name


def _new_rows(name: str, source: Tensor, target: Tensor, model: Segmenter) -> Tensor | None:
    """Which rows of ``target`` are of an additional basis, if the others fit ``source``."""
    part, _, _ = name.rpartition(".")
    if source.shape[1:] != target.shape[1:]:
        return None
    if part == "instance_head.coefficients":
        # Repeated for each prior box of a cell; what is not predicted comes last.
        every = with_bases(model).assembler.of_last_basis
        new = every.repeat(-(-len(target) // len(every)))[: len(target)]
    elif part == "basis_head.basis_head.project":
        new = torch.arange(len(target)) >= len(source)
    else:
        return None
    return new if len(source) == int((~new).sum()) else None


def _by_part(names: Iterable[str]) -> str:
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "none"
