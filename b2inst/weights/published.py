"""Published checkpoints as models of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from b2inst.models import Segmenter, create_model
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table, grouped, translate

_CATEGORIES: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
_NONE = ("__background__", "N/A")

#: Ids and names of COCO's 80 categories, in the order of their labels; the ids have gaps.
COCO_CATEGORY_IDS = tuple(i for i, name in enumerate(_CATEGORIES) if name not in _NONE)
COCO_CLASS_NAMES = tuple(name for name in _CATEGORIES if name not in _NONE)

#: Depth of a ResNet by the number of blocks in its stages.
_DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}


def channels(tensors: Mapping[str, Tensor], name: str) -> int:
    """Output channels of a weight; ValueError if it is missing."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim == 0 or len(tensor) == 0:
        raise ValueError(f"{name} is missing or empty")
    return len(tensor)


def resnet_depth(tensors: Mapping[str, Tensor], stages: Iterable[str]) -> int:
    """Depth of the ResNet whose stages have the given names; ValueError if not 50 or 101."""
    blocks = tuple(
        len({name.split(".")[3] for name in tensors if name.startswith(f"{stage}.")})
        for stage in stages
    )
    if blocks not in _DEPTHS:
        raise ValueError(f"no ResNet-50 or -101 (it has {blocks} blocks in its stages)")
    return _DEPTHS[blocks]


def new_model(name: str, num_classes: int, **options: Any) -> Segmenter:
    """A new model; 80 classes are assumed to be COCO's."""
    names = COCO_CLASS_NAMES if num_classes == len(COCO_CLASS_NAMES) else None
    return create_model(name, num_classes=num_classes, class_names=names, **options)


@dataclass(frozen=True)
class Publisher:
    """How a project's checkpoints become models."""

    tables: tuple[Table, ...]  #: the one that knows most of a checkpoint's names is used
    #: Builds the model that tensors from a file fit, with new weights; ValueError if there is none.
    build: Callable[[Mapping[str, Tensor], str], Segmenter]
    remedy: str  #: end of error messages
    not_needed: re.Pattern[str]  #: matches tensors that a model has no place for
    #: Values that such tensors must have, if a checkpoint has them.
    constants: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: Changes the values of published tensors to our arrangement.
    rearrange: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict

    def own_names(self, published: Iterable[str]) -> dict[str, str]:
        """Our name of each of a checkpoint's tensors; unknown ones are left out."""
        names = [name for name in published if not self.not_needed.fullmatch(name)]
        return max((translate(names, table) for table in self.tables), key=len)

    def load(self, tensors: Mapping[str, Tensor], *, source: str) -> Segmenter:
        """Build the model of a published checkpoint with its weights, ready to predict.

        Raises:
            WeightsError: The model cannot be built here, or tensors are missing, unknown or
                misshaped; all of them are listed.
        """
        try:
            model = self.build(tensors, source)
        except ValueError as error:
            raise WeightsError(f"{source}: {error}; {self.remedy}") from error
        tensors, state = self.rearrange(tensors), model.state_dict()
        own = {name: ours for name, ours in self.own_names(tensors).items() if ours in state}
        unknown = [n for n in tensors if n not in own and not self.not_needed.fullmatch(n)]
        problems = [f"unknown {grouped(unknown)}"] if unknown else []
        for name, values in self.constants.items():
            found = tensors.get(name, torch.tensor(values)).flatten().float()
            if found.shape != (len(values),) or not found.allclose(torch.tensor(values).float()):
                problems.append(f"{name} is {found.tolist()}, ours is {list(values)}")
        try:
            model.load_state_dict({ours: tensors[name] for name, ours in own.items()})
        except RuntimeError as error:  # tensors are missing or misshaped
            problems.append(" ".join(str(error).split()))
        if problems:
            raise WeightsError(
                f"{source}: does not fit {model.recipe['name']}, the nearest model: "
                f"{'; '.join(problems)}; {self.remedy}"
            )
        return model
