"""A published checkpoint's tensors into a model that was built to fit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from b2inst.models.image_segmenter import ImageSegmenter
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import grouped


def load_published(
    model: ImageSegmenter,
    tensors: Mapping[str, Tensor],
    own: Mapping[str, str],
    *,
    not_needed: Iterable[str] = (),
    problems: Iterable[str] = (),
    source: str,
    remedy: str,
) -> None:
    """Load the tensors if they are all that the model wants, and nothing else.

    Args:
        own: our name of each tensor, of those that have one.
        not_needed: tensors without a place in the model that may be there.
        problems: found before, told together with those found here.
        source, remedy: how an error begins and ends.

    Raises:
        WeightsError: tensors that are missing, unknown or misshaped, all of them listed.
    """
    wanted = model.state_dict()
    passed = set(not_needed)
    unknown = [name for name in tensors if name not in passed and own.get(name) not in wanted]
    reached = set(own.values())
    missing = [name for name in wanted if name not in reached]
    found = [f"unknown {grouped(unknown)}"] if unknown else []
    found += [f"nothing for our {grouped(missing)}"] if missing else []
    found += [
        f"{name} is {_size(tensors[name])}, ours is {_size(wanted[ours])}"
        for name, ours in own.items()
        if ours in wanted and tensors[name].shape != wanted[ours].shape
    ]
    found += problems
    if found:
        raise WeightsError(
            f"{source}: does not fit {model.recipe['name']}, the nearest model: "
            f"{'; '.join(found)}; {remedy}"
        )
    model.load_state_dict({ours: tensors[name] for name, ours in own.items()})


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
