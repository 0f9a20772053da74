"""Published checkpoints to our own weights files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from b2inst.models import Segmenter
from b2inst.weights.adelaidet import ADELAIDET
from b2inst.weights.coco_classes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from b2inst.weights.detectron2 import DETECTRON2
from b2inst.weights.errors import WeightsError
from b2inst.weights.files import save_model
from b2inst.weights.pickles import read_checkpoint
from b2inst.weights.published import Publisher
from b2inst.weights.yolact import YOLACT

_PUBLISHERS: dict[str, Publisher] = {
    "adelaidet": ADELAIDET,
    "detectron2": DETECTRON2,
    "yolact": YOLACT,
}


@dataclass(frozen=True)
class Conversion:
    """What was converted; as text, a line each."""

    source: Path
    target: Path
    model: Segmenter
    tensors: int  #: number of tensors in the checkpoint
    not_needed: list[str]  #: those that have no place in the model

    def __str__(self) -> str:
        left = self.not_needed
        parts = Counter(name.split(".")[0] for name in self.model.state_dict())
        counts = ", ".join(f"{part} {count}" for part, count in parts.items())
        lines = [
            f"{self.source}: {self.tensors} tensors",
            f"  renamed: {sum(parts.values())} ({counts})",
            f"  not needed: {len(left)}" + (f" ({', '.join(left)})" if left else ""),
            f"{self.target}: {_description(self.model)}",
        ]
        return "\n".join(lines)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    publisher: Literal["adelaidet", "detectron2", "yolact"],
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write the model of a published checkpoint as a file for ``b2inst.load_model``.

    Category ids are COCO's where the model has COCO's 80 classes. Otherwise they are counted from
    1, and data are expected to have the classes in the same order.

    Args:
        source: ``.pth`` or ``.pkl`` file.
        target: the file to write.
        publisher: who published the checkpoint.
        names: the classes that the checkpoint was trained on, in order.
        overwrite: replace an existing target.

    Raises:
        WeightsError: a file that cannot be read or written, a model that cannot be built here, or
            another number of names than of classes; nothing is written then.
    """
    source, target = Path(source), Path(target)
    if not target.parent.is_dir():
        raise WeightsError(f"{target}: there is no folder {target.parent}; make it first")
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"{target}: would replace the checkpoint it is made of; name another")
    if target.exists() and not overwrite:
        raise WeightsError(f"{target}: is there already; name another file or add --overwrite")
    tensors = read_checkpoint(source)
    model = _PUBLISHERS[publisher].load(tensors, source=str(source))
    classes = model.recipe["num_classes"]
    ids = tuple(range(1, classes + 1))
    if names is not None:
        if len(names) != classes:
            raise WeightsError(f"{source}: has {classes} classes, but {len(names)} names are given")
        model.class_names = tuple(names)
    if model.class_names == COCO_CLASS_NAMES:
        ids = COCO_CATEGORY_IDS
    save_model(model, target, category_ids=ids)
    own = _PUBLISHERS[publisher].own_names(tensors)
    left = [name for name in tensors if name not in own]
    return Conversion(source, target, model, len(tensors), left)


def _description(model: Segmenter) -> str:
    options = model.recipe["options"]
    named = ", ".join(model.class_names or ()) or "unnamed; --names gives them names"
    if model.class_names == COCO_CLASS_NAMES:
        named = "COCO's"
    facts = [model.recipe["name"], f"{model.recipe['num_classes']} classes ({named})"]
    if bases := options.get("num_bases"):
        facts += [f"{bases} bases"]
    if attention := options.get("attention_size"):
        facts += [f"attention {attention}×{attention}"]
    if size := model.preprocessor.fixed_size:
        facts += [f"images of {size[0]}×{size[1]} pixels"]
    return ", ".join(facts)
