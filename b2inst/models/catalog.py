"""Names of models, and the functions that build them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any

from b2inst.models.blendmask import IMAGENET_RGB, blendmask, blendmask_tiny
from b2inst.models.condinst import condinst, condinst_tiny
from b2inst.models.image_segmenter import ImageSegmenter
from b2inst.models.mask_rcnn import mask_rcnn, mask_rcnn_tiny
from b2inst.models.mobilenet import on_mobilenet
from b2inst.models.yolact import yolact, yolact_tiny
from b2inst.modules.boundary_preserving_head import BoundaryPreservingHead

Builder = Callable[..., ImageSegmenter]

_B2INST: dict[str, Any] = {"boundary": {}, "scoring": ("iou", "boundary")}

#: The published real-time models: images of 550 pixels, fewer levels and convolutions.
_550: dict[str, Any] = {
    "top_levels": 1,
    "shared_convs": 3,
    "tower_convs": 0,
    "basis_convs": 2,
    "shorter": 550,
    "longer_max": 916,
}

#: Size at which the models on MobileNetV2 look at images.
_320: dict[str, Any] = {"shorter": 320, "longer_max": 533}

#: Every model by name: ``<family>-<variant>``.
CATALOG: dict[str, Builder] = {
    "blendmask-tiny": blendmask_tiny,
    "blendmask-mobilenetv2": partial(on_mobilenet, blendmask_tiny, **_320),
    "blendmask-r18": partial(blendmask, backbone="resnet18"),
    "blendmask-r34": partial(blendmask, backbone="resnet34"),
    "blendmask-r50": partial(blendmask, backbone="resnet50"),
    "blendmask-r101": partial(blendmask, backbone="resnet101"),
    "blendmask-550-r50": partial(blendmask, backbone="resnet50", **_550),
    "yolact-tiny": yolact_tiny,
    "yolact-mobilenetv2": partial(on_mobilenet, yolact_tiny, size=320, pixels=IMAGENET_RGB),
    "yolact-r50": partial(yolact, backbone="resnet50"),
    "yolact-r101": partial(yolact, backbone="resnet101"),
    "condinst-tiny": condinst_tiny,
    "condinst-mobilenetv2": partial(on_mobilenet, condinst_tiny, **_320),
    "condinst-r50": partial(condinst, backbone="resnet50"),
    "condinst-r101": partial(condinst, backbone="resnet101"),
}

#: Variants whose training starts from ImageNet weights unless an option says otherwise.
PRETRAINED = frozenset({"mobilenetv2"})

#: Ours, not the paper's: the supervised boundary bounds the masks' diffusion (docs/beyond.md).
_GATED: dict[str, Any] = {
    "boundary": {"as_basis": False, "two_sided": True},
    "refine": {"diffusion": {}},
    "scoring": ("iou", "boundary"),
}

#: What a model adds to the baseline whose name follows; of two that fit a name the first.
_ADDED = {
    "b2inst-": _B2INST,
    "gated-convs-": _GATED | {"refine": {"diffusion": {}, "convs": {}}},
    "gated-": _GATED,
}
CATALOG |= {
    prefix + name: partial(builder, **parts)
    for prefix, parts in _ADDED.items()
    for name, builder in tuple(CATALOG.items())
}

#: What makes another model of Mask R-CNN.
_TWO_STAGE: dict[str, dict[str, Any]] = {
    "maskrcnn": {},
    "ms-rcnn": {"scoring": True},
    "bmask-rcnn": {"make_mask_head": BoundaryPreservingHead, "refined_samples": True},
}
for _family, _parts in _TWO_STAGE.items():
    CATALOG |= {
        f"{_family}-tiny": partial(mask_rcnn_tiny, **_parts),
        f"{_family}-r50": partial(mask_rcnn, backbone="resnet50", **_parts),
        f"{_family}-r101": partial(mask_rcnn, backbone="resnet101", **_parts),
    }

#: Families of models without bases, which B2Inst could not join.
TWO_STAGE = frozenset(_TWO_STAGE)


def baseline_of(name: str) -> str:
    """The model, or family of models, that one of this name adds to; a baseline's own name."""
    return next((name.removeprefix(p) for p in _ADDED if name.startswith(p)), name)


def create_model(
    name: str,
    *,
    num_classes: int,
    class_names: tuple[str, ...] | None = None,
    max_detections: int | None = None,
    **options: Any,
) -> ImageSegmenter:
    """Build a model by name, with fresh weights.

    Args:
        name: a key of ``CATALOG``.
        num_classes: C.
        class_names: name of each label, carried along to results and saved weights.
        max_detections: of an image (default: 100, as COCO evaluates).
        options: of the family's builder, e.g. ``attention_size``, ``boundary``, ``scoring``.

    Raises:
        ValueError: if a name or an option is unknown, or an option's value has a wrong type.
    """
    if name not in CATALOG:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(sorted(CATALOG))}")
    if num_classes < 1:
        raise ValueError(f"num_classes {num_classes}: give the number of object classes, 1 or more")
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(f"{len(class_names)} class names for {num_classes} classes")
    known = _options(CATALOG[name])
    if unknown := [option for option in options if option not in known]:
        raise ValueError(
            f"{name} has no option {', '.join(unknown)}; it has max_detections, {', '.join(known)}"
        )
    for option, value in options.items():
        expected = _TYPES.get(type(known[option].default))
        if expected and value is not None and not isinstance(value, expected):
            raise ValueError(
                f"{name}: option {option} is {value!r}; give a value like {known[option].default!r}"
            )
    try:
        model = CATALOG[name](num_classes=num_classes, **options)
    except TypeError as error:
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        nested = [value for value in options.values() if isinstance(value, Mapping)]
        if unexpected is None or not any(unexpected[1] in mapping for mapping in nested):
            raise
        raise ValueError(f"options of {name}: {error}") from error
    model.class_names = class_names
    # The weights to start from are no part of what the finished model is.
    kept = {key: value for key, value in options.items() if key != "backbone_weights"}
    if options.get("backbone_weights") is not None:
        kept.setdefault("frozen_norm", True)
    model.recipe = {"name": name, "num_classes": num_classes, "options": kept}
    if max_detections is not None:
        model.max_detections = max_detections
        kept["max_detections"] = max_detections
    return model


#: What a value may be, by the type of the default.
_TYPES: dict[type, Any] = {
    bool: bool,
    int: int,
    float: (int, float),
    str: str,
    tuple: (list, tuple),
}


def _options(builder: Any) -> dict[str, Parameter]:
    """Of a builder; what it takes by ``**`` are those of the builder that it is given."""
    parameters = signature(builder).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "num_classes"}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        inner = _options(builder.args[0])
        known |= {name: p for name, p in inner.items() if name != "make_backbone"}
    return known
