"""Published checkpoints to our own weights files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from b2inst.data.wording import counted
from b2inst.weights.adelaidet import ADELAIDET
from b2inst.weights.detectron2 import DETECTRON2
from b2inst.weights.errors import WeightsError
from b2inst.weights.files import save_model
from b2inst.weights.pickles import read_checkpoint
from b2inst.weights.published import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from b2inst.weights.yolact import YOLACT

_PUBLISHERS = {"adelaidet": ADELAIDET, "detectron2": DETECTRON2, "yolact": YOLACT}


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    publisher: Literal["adelaidet", "detectron2", "yolact"],
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Write the model of a published checkpoint as a file for ``b2inst.load_model``.

    Category ids are COCO's if the model has COCO's 80 classes. Otherwise they are counted from 1,
    and data are expected to have the classes in the same order.

    Args:
        source: ``.pth`` or ``.pkl`` file.
        target: File to write.
        publisher: Who published the checkpoint.
        names: Classes that the checkpoint was trained on, in order.
        overwrite: Whether to replace an existing target.

    Returns:
        A report of several lines.

    Raises:
        WeightsError: A file cannot be read or written, the model cannot be built here, or the
            number of names is not that of classes; nothing is written then.
    """
    source, target = Path(source), Path(target)
    if target.exists() and not overwrite:
        raise WeightsError(f"{target}: already exists; choose another, or add --overwrite")
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"{target}: would replace the checkpoint it is made of; name another")
    tensors = read_checkpoint(source)
    if any(name.startswith(("instance_head.", "detector.")) for name in tensors):
        raise WeightsError(f"{source}: is a model of b2inst already; use it without converting")
    model = _PUBLISHERS[publisher].load(tensors, source=str(source))
    classes = model.recipe["num_classes"]
    if names is not None:
        if len(names) != classes:
            given = f"{counted(classes, 'class', 'classes')}, but {counted(len(names), 'name')}"
            raise WeightsError(f"{source}: has {given} given")
        model.class_names = tuple(names)
    coco = model.class_names == COCO_CLASS_NAMES
    ids = COCO_CATEGORY_IDS if coco else tuple(range(1, classes + 1))
    own = _PUBLISHERS[publisher].own_names(tensors)
    for name in own:
        value = tensors[name]
        if value.ndim and not (value.is_floating_point() and value.isfinite().all()):
            raise WeightsError(f"{source}: {name} has values that are no finite floats")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, target, category_ids=ids)
    left = [name for name in tensors if name not in own]
    named = "COCO's" if coco else ", ".join(model.class_names or ["--names gives them names"])
    options = ", ".join(f"{key} {value}" for key, value in model.recipe["options"].items())
    return (
        f"{source}: {len(tensors)} tensors\n"
        f"  renamed: {len(own)}\n"
        f"  not needed: {len(left)} ({', '.join(left)})\n"
        f"{target}: {model.recipe['name']}, classes: {classes} ({named}), {options}"
    )
