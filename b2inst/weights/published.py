"""Published checkpoints as models of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
        tensors: by their published names.
        source: named in errors as the place the tensors come from.
    """

    tensors: Mapping[str, Tensor]
    source: str

    def channels(self, name: str, *, kind: str, remedy: str) -> int:
        """Output channels of a weight.

        Raises:
            WeightsError: it is missing, so that this is no model of this kind.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.ndim == 0 or len(tensor) == 0:
            raise WeightsError(f"{self.source}: no {kind}: {name} is missing or empty; {remedy}")
        return len(tensor)

    def resnet_depth(self, stages: Sequence[str]) -> tuple[int | None, tuple[int, ...]]:
        """Depth, if it is 50 or 101, and number of blocks in each stage, given their names."""
        blocks = tuple(
            len({name.split(".")[3] for name in self.tensors if name.startswith(f"{stage}.")})
            for stage in stages
        )
        return _DEPTHS.get(blocks), blocks

    def create_model(self, name: str, num_classes: int, **options: Any) -> Segmenter:
        """A fresh model; 80 classes are those of COCO.

        Raises:
            WeightsError: there is no such model.
        """
        names = COCO_CLASS_NAMES if num_classes == len(COCO_CLASS_NAMES) else None
        try:
            return create_model(name, num_classes=num_classes, class_names=names, **options)
        except ValueError as error:
            raise WeightsError(f"{self.source}: {error}") from error


@dataclass(frozen=True)
class Publisher:
    """How a project's checkpoints become models.

    Args:
        names: published names and ours.
        build: builds the model that a checkpoint fits, with fresh weights.
        remedy: end of error messages.
        not_needed: matches tensors that a model has no place for.
        constants: tensors among them whose values our models have, too.
        numbered: matches the modules of which the largest number is ``last`` in ``names``.
    """

    names: Table
    build: Callable[[Checkpoint], Segmenter]
    remedy: str
    not_needed: re.Pattern[str]
    constants: Mapping[str, Sequence[float]]
    numbered: re.Pattern[str] | None = None

    def own_names(self, published: Iterable[str]) -> dict[str, str]:
        """Our name of each of a checkpoint's tensors; unknown ones are left out."""
        names = [name for name in published if not self.not_needed.fullmatch(name)]
        known = {} if self.numbered is None else {"last": last_number(self.numbered, names)}
        return translate(names, self.names, **known)

    def load(self, tensors: Mapping[str, Tensor], *, source: str) -> Segmenter:
        """The model that a published checkpoint holds, with its weights, ready to predict.

        Args:
            tensors: the checkpoint's state dict.
            source: the checkpoint's path, which errors name.

        Raises:
            WeightsError: no model that can be built here, or tensors that are missing, unknown or
                misshaped, all of them listed.
        """
        model = self.build(Checkpoint(tensors, source))
        own = self.own_names(tensors)
        if problems := self._problems(tensors, own, model.state_dict()):
            raise WeightsError(
                f"{source}: does not fit {model.recipe['name']}, the nearest model: "
                f"{'; '.join(problems)}; {self.remedy}"
            )
        model.load_state_dict({ours: tensors[name] for name, ours in own.items()})
        return model

    def _problems(
        self, tensors: Mapping[str, Tensor], own: Mapping[str, str], state: Mapping[str, Tensor]
    ) -> list[str]:
        unknown = [
            name
            for name in tensors
            if own.get(name) not in state and not self.not_needed.fullmatch(name)
        ]
        missing = state.keys() - own.values()
        problems = [f"unknown {grouped(unknown)}"] if unknown else []
        if missing:
            problems.append(f"nothing for our {grouped(n for n in state if n in missing)}")
        problems += [
            f"{name} is {_size(tensors[name])}, ours is {_size(state[ours])}"
            for name, ours in own.items()
            if ours in state and tensors[name].shape != state[ours].shape
        ]
        return problems + [
            f"{name} is {tensors[name].flatten().tolist()}, ours is {list(values)}"
            for name, values in self.constants.items()
            if name in tensors and not _close(tensors[name], values)
        ]


def last_number(pattern: re.Pattern[str], names: Iterable[str]) -> int:
    """The largest number that the pattern's group matches in one of the names; 0 without any."""
    matches = (pattern.fullmatch(name) for name in names)
    return max((int(match[1]) for match in matches if match), default=0)


def _close(tensor: Tensor, values: Sequence[float]) -> bool:
    return tensor.numel() == len(values) and torch.allclose(
        tensor.flatten().float(), torch.tensor(values, dtype=torch.float32), atol=0.01
    )


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
