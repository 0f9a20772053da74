"""Models by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from b2inst.models.basis_families import SMALL_FCOS, SMALL_YOLACT, BlendMask, CondInst, Yolact
from b2inst.models.building import Family
from b2inst.models.segmenter import Segmenter, is_whole
from b2inst.models.two_stage_families import CenterMask, MaskRCNN, PointRend, TensorMask, Voting
from b2inst.modules.mask_heads import BoundaryPreservingHead
from b2inst.modules.masklab import MaskLabHead
from b2inst.modules.mnc import MNCDetector

_96: dict[str, Any] = {"backbone": "tiny", "shorter": 96, "longer_max": 160}
_320: dict[str, Any] = {"backbone": "mobilenet_v2", "shorter": 320, "longer_max": 533}

_SMALL_BLENDMASK = SMALL_FCOS | {"basis_stride": 2, "roi_size": 28}

#: Every model by name, ``<family>-<variant>``.
CATALOG: dict[str, Family] = {
    "blendmask-tiny": BlendMask(**_SMALL_BLENDMASK, **_96),
    "blendmask-mobilenetv2": BlendMask(**_SMALL_BLENDMASK, **_320),
    "blendmask-r18": BlendMask(backbone="resnet18"),
    "blendmask-r34": BlendMask(backbone="resnet34"),
    "blendmask-r50": BlendMask(backbone="resnet50"),
    "blendmask-r101": BlendMask(backbone="resnet101"),
    # The published real-time model: smaller images, fewer levels and convolutions.
    "blendmask-550-r50": BlendMask(
        top_levels=1, shared_convs=3, tower_convs=0, basis_convs=2, shorter=550, longer_max=916
    ),
    "yolact-tiny": Yolact(**SMALL_YOLACT, backbone="tiny", size=96),
    "yolact-mobilenetv2": Yolact(**SMALL_YOLACT, backbone="mobilenet_v2", size=320),
    "yolact-r50": Yolact(backbone="resnet50"),
    "yolact-r101": Yolact(backbone="resnet101"),
    "condinst-tiny": CondInst(**SMALL_FCOS, **_96),
    "condinst-mobilenetv2": CondInst(**SMALL_FCOS, **_320),
    "condinst-r50": CondInst(backbone="resnet50"),
    "condinst-r101": CondInst(backbone="resnet101"),
}

#: Variants whose training starts from ImageNet weights unless an option says otherwise.
PRETRAINED = frozenset({"mobilenetv2"})

_BOTH_SCORES: dict[str, Any] = {"scoring": ("iou", "boundary")}
#: Ours, not the paper's: the supervised boundary bounds the masks' diffusion (docs/beyond.md).
_GATED = _BOTH_SCORES | {
    "boundary": {"as_basis": False, "two_sided": True},
    "refine": {"diffusion": {}},
}

#: What a prefix adds to the baseline whose name follows it; the first that fits counts.
_ADDED: dict[str, dict[str, Any]] = {
    "b2inst-": _BOTH_SCORES | {"boundary": {}},
    "gated-convs-": _GATED | {"refine": {"diffusion": {}, "convs": {}}},
    "gated-": _GATED,
}
CATALOG |= {
    prefix + name: replace(family, **added)
    for prefix, added in _ADDED.items()
    for name, family in tuple(CATALOG.items())
}

#: Families of models without bases, which B2Inst could not join.
WITHOUT_BASES: dict[str, Family] = {
    "maskrcnn": MaskRCNN(),
    "ms-rcnn": MaskRCNN(scoring=True),
    "bmask-rcnn": MaskRCNN(mask_head=BoundaryPreservingHead, refined_samples=True),
    "pointrend": PointRend(),
    "fcis": Voting(),
    # Of 800 pixels, the shorter sides that are published.
    "fcispp": Voting(scales=(0.6, 0.72, 0.86, 1.08, 1.5, 1.75)),
    "mnc": Voting(detector=MNCDetector),
    "masklab": MaskRCNN(mask_head=MaskLabHead),
    "tensormask": TensorMask(),
    "centermask": CenterMask(),
}
_VARIANTS = {"tiny": _96, "r50": {"backbone": "resnet50"}, "r101": {"backbone": "resnet101"}}
CATALOG |= {
    f"{name}-{variant}": replace(family, **added)
    for name, family in WITHOUT_BASES.items()
    for variant, added in _VARIANTS.items()
}
CATALOG["centermask-mobilenetv2"] = CenterMask(**_320)

#: Types of options, by the type of their default, that do not hold numbers.
_TYPES: dict[type, Any] = {bool: bool, str: str, tuple: (list, tuple), dict: Mapping, type: type}

#: Values of options that are not set by default.
_EXAMPLES: dict[str, Any] = (
    {"boundary": {}, "refine": {"diffusion": {}}, "oracle": {}, "scoring": ("iou", "boundary")}
    | {"head_strides": (8, 16, 32), "prior_sizes": (24, 48, 96), "scales": (0.75, 1.0)}
    | {"backbone_weights": "imagenet", "frozen_norm": True, "top_levels": 2, "best_per_image": 64}
)


def baseline_of(name: str) -> str:
    """The model, or family of models, that one of this name adds to; a baseline's own name."""
    return next((name.removeprefix(p) for p in _ADDED if name.startswith(p)), name)


def options_of(name: str) -> dict[str, Any]:
    """Return the options of a model, and their defaults; a ValueError if there is no such model."""
    if name not in CATALOG:
        near = get_close_matches(name, CATALOG, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown model {name!r}; {hint}`b2inst models` lists all models")
    return {field.name: getattr(CATALOG[name], field.name) for field in fields(CATALOG[name])}


def _fits(value: Any, default: Any, *, name: str) -> bool:
    """Whether an option of this name and default may have a value; numbers are positive."""
    if type(default) is int:
        return is_whole(value, least=1) or (value == 0 and name.endswith("_convs"))
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if isinstance(default[0], str):
            return all(isinstance(one, str) for one in value) and len({*value}) == len(value)
        return all(isinstance(one, int | float) and 0 < one < math.inf for one in value)
    return isinstance(value, _TYPES.get(type(default), object))


def _plain(value: Any) -> Any:
    """Python's numbers and lists in place of NumPy's, which weights files cannot hold."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


@torch.inference_mode(False)  # else later changes of the weights cannot be noticed
def create_model(
    name: str,
    *,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    max_detections: int | None = None,
    **options: Any,
) -> Segmenter:
    """Build a model by name, with untrained weights, in evaluation mode.

    Call ``model.train()`` before you train it in your own loop.

    Args:
        name: A key of ``CATALOG``, such as "b2inst-blendmask-r50".
        num_classes: Number of classes.
        class_names: Name of each label, in order; kept in results and saved weights.
        max_detections: Maximum number of instances per image (default: 100, COCO's limit; 50 for
            CenterMask).
        options: Options of the model's family, such as ``attention_size``, ``boundary`` or
            ``scoring``.

    Returns:
        The model.

    Raises:
        ValueError: A name or an option is unknown, or the value of an option has the wrong type.
    """
    known = options_of(name)
    options = _plain(options)
    for count, value in {"num_classes": num_classes, "max_detections": max_detections}.items():
        if (value is not None or count == "num_classes") and not is_whole(value, least=1):
            raise ValueError(f"{count} {value!r}: give a whole number, 1 or more")
    if isinstance(class_names, str):
        raise ValueError(f"class_names {class_names!r}: give a sequence of names, one per class")
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(f"class_names has length {len(class_names)}, num_classes is {num_classes}")
    if unknown := [option for option in options if option not in known]:
        raise ValueError(
            f"{name} has no option {', '.join(unknown)}; it has max_detections, {', '.join(known)}"
        )
    for option, value in options.items():
        like = _EXAMPLES.get(option) if known[option] in (None, ()) else known[option]
        if value is not None and not _fits(value, like, name=option):
            shown = f"a value like {like!r}"
            if isinstance(like, type):
                shown = f"a class, in Python, such as {like.__name__}"
            raise ValueError(f"{name}: option {option} is {value!r}; give {shown}")
    try:
        model = replace(CATALOG[name], **options).build(int(num_classes))
    except TypeError as error:
        # Their contents have not been checked; anything else is our own mistake.
        if not any(value is None or isinstance(value, Mapping) for value in options.values()):
            raise
        raise ValueError(f"options of {name}: {error}") from error  # of ``boundary``, for example
    model.class_names = None if class_names is None else tuple(map(str, class_names))
    # The weights to start from are no part of what the finished model is.
    kept = {key: value for key, value in options.items() if key != "backbone_weights"}
    if options.get("backbone_weights") is not None:
        kept.setdefault("frozen_norm", True)
    if max_detections is not None:
        model.max_detections = kept["max_detections"] = int(max_detections)
    model.recipe = {"name": name, "num_classes": int(num_classes), "options": kept}
    return model.eval()
