"""``b2inst models`` and ``b2inst profiles``, which do not import PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from b2inst.experiments import CocoData, ScenesData

#: The second half of a model's name.
_BACKBONES = {
    "tiny": "four convolutional stages, trained from scratch",
    "mobilenetv2": "MobileNetV2, starts from ImageNet weights",
    "r18": "ResNet-18",
    "r34": "ResNet-34",
    "r50": "ResNet-50",
    "r101": "ResNet-101",
}
_COMMON = ("tiny", "mobilenetv2", "r50", "r101")

#: Families with bases, with their backbones. Each has the forms below.
_WITH_BASES = {
    "blendmask": ("BlendMask", tuple(_BACKBONES)),
    "blendmask-550": ("real-time BlendMask", ("r50",)),
    "yolact": ("YOLACT", _COMMON),
    "condinst": ("CondInst", _COMMON),
}
_FORMS = {
    "": "",
    "b2inst-": " with B2Inst",
    "gated-": " with a boundary gate",
    "gated-convs-": " with a boundary gate and convolutions",
}
_WITHOUT_BASES = {
    "maskrcnn": "Mask R-CNN",
    "ms-rcnn": "Mask Scoring R-CNN",
    "bmask-rcnn": "Boundary-preserving Mask R-CNN",
    "pointrend": "PointRend",
    "fcis": "FCIS",
    "fcispp": "FCIS++",
    "mnc": "Multi-task network cascades",
    "masklab": "MaskLab",
    "tensormask": "TensorMask",
}


def _all_models() -> dict[str, tuple[str, str]]:
    """Return the method and the backbone of each model in the catalog, by its name."""
    found = {}
    for family, (method, backbones) in _WITH_BASES.items():
        for form, added in _FORMS.items():
            for size in backbones:
                found[f"{form}{family}-{size}"] = method + added, _BACKBONES[size]
    found |= {f"centermask-{size}": ("CenterMask", _BACKBONES[size]) for size in _COMMON}
    for family, method in _WITHOUT_BASES.items():
        for size in ("tiny", "r50", "r101"):
            found[f"{family}-{size}"] = method, _BACKBONES[size]
    return found


def models() -> None:
    """List the models by name, with method and backbone."""
    from b2inst.experiments.tables.rendering import aligned

    lines = [[name, *what] for name, what in _all_models().items()]
    typer.echo(aligned([["model", "method", "backbone"], *lines]))


def profiles() -> None:
    """List the profiles with data, schedule and description."""
    from b2inst.experiments import Workspace, load_profile
    from b2inst.experiments.tables.rendering import aligned

    workspace = Workspace.here()
    rows = [["profile", "data", "schedule", "description"]]
    for name in workspace.specs("profiles"):
        profile = load_profile(name, workspace=workspace)
        length = f"{profile.schedule.iterations} × {profile.schedule.batch_size} images"
        rows.append([name, _data_text(profile.data), length, profile.description.split(". ")[0]])
    typer.echo(aligned(rows))


def _data_text(data: ScenesData | CocoData) -> str:
    if data.kind == "scenes":
        return f"scenes, {data.size} pixels"
    return data.root.name if data.root else "COCO format, --data"
