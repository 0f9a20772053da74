"""Published checkpoints as models of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from b2inst.models import Segmenter, create_model
from b2inst.weights.coco_classes import COCO_CLASS_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table, grouped, translate

#: Depth of a ResNet by the number of blocks in its stages.
_DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}


@dataclass(frozen=True)
class Checkpoint:
    """A published state dict.

    Args:
        tensors: By their published names.
        source: File, for error messages.
        remedy: End of error messages.
    """

    tensors: Mapping[str, Tensor]
    source: str
    remedy: str

    def error(self, problem: str) -> WeightsError:
        return WeightsError(f"{self.source}: {problem}; {self.remedy}")

    def channels(self, name: str) -> int:
        """Output channels of a weight; WeightsError if it is missing."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.ndim == 0 or len(tensor) == 0:
            raise self.error(f"{name} is missing or empty")
        return len(tensor)

    def resnet_depth(self, stages: Sequence[str]) -> int:
        """Depth of the ResNet whose stages have the given names; WeightsError if not 50 or 101."""
        blocks = tuple(
            len({name.split(".")[3] for name in self.tensors if name.startswith(f"{stage}.")})
            for stage in stages
        )
        if blocks not in _DEPTHS:
            raise self.error(f"no ResNet-50 or -101 (it has {blocks} blocks in its stages)")
        return _DEPTHS[blocks]

    def create_model(self, name: str, num_classes: int, **options: Any) -> Segmenter:
        """A new model; 80 classes are assumed to be COCO's."""
        names = COCO_CLASS_NAMES if num_classes == len(COCO_CLASS_NAMES) else None
        try:
            return create_model(name, num_classes=num_classes, class_names=names, **options)
        except ValueError as error:
            raise WeightsError(f"{self.source}: {error}") from error


@dataclass(frozen=True)
class Publisher:
    """How a project's checkpoints become models.

    Args:
        names: Published names and ours.
        build: Builds the model that a checkpoint fits, with new weights.
        remedy: End of error messages.
        not_needed: Matches tensors that a model has no place for.
        constants: Values that such tensors must have, if a checkpoint has them.
    """

    names: Table
    build: Callable[[Checkpoint], Segmenter]
    remedy: str
    not_needed: re.Pattern[str]
    constants: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def own_names(self, published: Iterable[str]) -> dict[str, str]:
        """Our name of each of a checkpoint's tensors; unknown ones are left out."""
        return translate((n for n in published if not self.not_needed.fullmatch(n)), self.names)

    def load(self, tensors: Mapping[str, Tensor], *, source: str) -> Segmenter:
        """Build the model of a published checkpoint with its weights, ready to predict.

        Args:
            tensors: The checkpoint's state dict.
            source: The checkpoint's path, for error messages.

        Raises:
            WeightsError: The model cannot be built here, or tensors are missing, unknown or
                misshaped; all of them are listed.
        """
        checkpoint = Checkpoint(tensors, source, self.remedy)
        model = self.build(checkpoint)
        state, own = model.state_dict(), self.own_names(tensors)
        unknown = [
            name
            for name in tensors
            if own.get(name) not in state and not self.not_needed.fullmatch(name)
        ]
        missing = [name for name in state if name not in own.values()]
        problems = [f"unknown {grouped(unknown)}"] if unknown else []
        problems += [f"nothing for our {grouped(missing)}"] if missing else []
        problems += [
            f"{name} is {_size(tensors[name])}, ours is {_size(state[ours])}"
            for name, ours in own.items()
            if ours in state and tensors[name].shape != state[ours].shape
        ]
        problems += [
            f"{name} is {tensors[name].flatten().tolist()}, ours is {list(values)}"
            for name, values in self.constants.items()
            if name in tensors and not _equal(tensors[name], values)
        ]
        if problems:
            name = model.recipe["name"]
            raise checkpoint.error(f"does not fit {name}, the nearest model: {'; '.join(problems)}")
        model.load_state_dict({ours: tensors[name] for name, ours in own.items()})
        return model


def _equal(tensor: Tensor, values: Sequence[float]) -> bool:
    expected = tensor.new_tensor(values)
    return tensor.numel() == len(values) and torch.allclose(tensor.flatten(), expected)


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
