"""``b2inst predict``, ``convert`` and ``export``; ``models`` and ``profiles`` without PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

import b2inst
from b2inst import experiments
from b2inst.cli import options as opt
from b2inst.data.wording import counted, folded

if TYPE_CHECKING:
    from b2inst.viz.predict import PredictedFiles

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


@opt.with_groups
def predict(
    weights: Annotated[Path, Argument(help="Weights file.")],
    out: Annotated[Path, Option(help="Folder to write to.")],
    images: Annotated[list[Path] | None, Argument(help="Images, videos, or their folders.")] = None,
    *,
    split: opt.SplitOptions,
    threshold: Annotated[float, Option(min=0, max=1, help="Minimum score to draw.")] = 0.3,
    label_maps: Annotated[
        bool, Option("--label-maps", help="Also write instance masks as 16-bit PNG files.")
    ] = False,
    overwrite: opt.Overwrite = False,
    max_detections: opt.MaxDetections = None,
    min_score: Annotated[
        float, Option(min=0, max=1, help="Minimum score to write; higher is faster.")
    ] = 0,
    tile: Annotated[
        int | None, Option(min=160, help="Cut images into tiles of N×N pixels.")
    ] = None,
    precision: opt.Precision = "auto",
    device: opt.Device = "auto",
) -> None:
    """Predict images and videos.

    Writes annotated pictures and videos, and predictions.json with all detections in COCO format.
    Give images, or use --data to predict a split. Folders are searched with their subfolders.

    Rerun with the same --out to resume, or to add images or label maps.
    """
    from b2inst.data import DataError
    from b2inst.inference import resolve_device
    from b2inst.viz.predict import find_images, predict_files

    if bool(images) == (split.data is not None):
        raise typer.BadParameter("give either images, or --data for those of a split")
    model = b2inst.load_model(
        weights,
        device=resolve_device(device),
        precision=precision,
        max_detections=max_detections,
        min_score=min_score,
        tile=tile,
    )
    if images:
        opt.coco_data(**vars(replace(split, skip_bad=False)))  # the others need --data
        paths = find_images(images, videos=True, outside=out, skip_bad=split.skip_bad)
        folders = [path for path in images if path.is_dir()]
    else:
        index = opt.read_split(**vars(split))
        paths, folders = [record.path for record in index.images], [index.image_dir]
    found = predict_files(
        model,
        paths,
        out,
        folders=folders,
        category_ids=model.category_ids,
        score_threshold=threshold,
        label_maps=label_maps,
        overwrite=overwrite,
    )
    typer.echo(_written(found, out, threshold=threshold, label_maps=label_maps))
    if found.full:
        typer.echo(
            f"warning: {counted(found.full, 'image')} reached the limit of "
            f"{counted(model.max_detections, 'detection')}; raise it with --max-detections",
            err=True,
        )
    skipped = found.bad if split.skip_bad else found.bad[1:]
    for line in folded(map(str, skipped)):
        typer.echo(f"skipped: {line}", err=True)
    if found.bad and not split.skip_bad:
        raise found.bad[0]
    if not found.pictures:
        raise DataError("none of the images can be read; restore them or give others")


def convert(
    source: Annotated[Path, Argument(help="Published checkpoint (.pth or .pkl).")],
    out: Annotated[Path, Argument(help="Weights file to write (.safetensors).")],
    publisher: Annotated[
        Literal["adelaidet", "detectron2", "yolact"],
        Option("--from", help="Project that published it."),
    ],
    names: Annotated[
        str | None, Option(help="Class names in order: a,b,c or a text file, one per line.")
    ] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Convert a published checkpoint to a weights file of b2inst."""
    from b2inst.weights.convert import convert

    classes = None
    if names is not None:
        from_file = "," not in names and Path(names).is_file()
        try:
            text = Path(names).read_text("utf-8-sig") if from_file else names.replace(",", "\n")
        except UnicodeDecodeError:
            raise typer.BadParameter(f"--names {names}: not UTF-8 text; save it as UTF-8") from None
        classes = [part.strip() for part in text.splitlines() if part.strip()]
    typer.echo(convert(source, out, publisher=publisher, names=classes, overwrite=overwrite))


def export(
    weights: Annotated[Path, Argument(help="Weights file.")],
    to: Annotated[Literal["onnx", "openvino"], Option(help="Runtime.")],
    out: Annotated[Path | None, Option(help="File (default: beside the weights).")] = None,
    int8: Annotated[bool, Option("--int8", help="Quantise; needs --calibrate.")] = False,
    calibrate: Annotated[
        str | None,
        Option(metavar="DIR[:SPLIT]", help="Images for --int8: a folder, or COCO-format data."),
    ] = None,
    calibration_images: Annotated[int, Option(min=1, help="Maximum number of images.")] = 128,
    overwrite: opt.Overwrite = False,
) -> None:
    """Export a model to ONNX Runtime or OpenVINO.

    eval, predict, submit and load_model accept the exported file in place of weights.
    """
    if int8 != (calibrate is not None):
        raise typer.BadParameter("--int8 and --calibrate need each other")
    from b2inst.export import calibration_files, export_model

    files = None if calibrate is None else calibration_files(calibrate, most=calibration_images)
    path = export_model(weights, out, to=to, calibration=files, overwrite=overwrite)
    size = sum(file.stat().st_size for file in {path, path.with_suffix(".bin")} if file.is_file())
    kind = "float32" if files is None else f"int8, calibrated on {counted(len(files), 'image')}"
    typer.echo(f"{path}: for {to}, {kind}, {size / 1e6:.1f} MB")


def models() -> None:
    """List the models by name, with method and backbone."""
    from b2inst.experiments.tables.rendering import aligned

    families = {
        form + family: (method + added, sizes)
        for family, (method, sizes) in _WITH_BASES.items()
        for form, added in _FORMS.items()
    }
    families["centermask"] = "CenterMask", _COMMON
    families |= {name: (method, ("tiny", "r50", "r101")) for name, method in _WITHOUT_BASES.items()}
    lines = [["model", "method", "backbone"]]
    for family, (method, sizes) in families.items():
        lines += [[f"{family}-{size}", method, _BACKBONES[size]] for size in sizes]
    typer.echo(aligned(lines))


def profiles() -> None:
    """List the profiles with data, schedule and description."""
    from b2inst.experiments.tables.rendering import aligned

    workspace = experiments.Workspace.here()
    rows = [["profile", "data", "schedule", "description"]]
    for name in workspace.specs("profiles"):
        profile = experiments.load_profile(name, workspace=workspace)
        data = "COCO format, --data"
        if profile.data.kind == "scenes":
            data = f"scenes, {profile.data.size} pixels"
        elif profile.data.root:
            data = profile.data.root.name
        length = f"{profile.schedule.iterations} × {profile.schedule.batch_size} images"
        rows.append([name, data, length, profile.description.split(". ")[0]])
    typer.echo(aligned(rows))


def _written(found: PredictedFiles, out: Path, *, threshold: float, label_maps: bool) -> str:
    """Which files there are, and how many detections."""
    videos = sum(path.suffix == ".mp4" for path in found.pictures)
    written = counted(len(found.pictures) - videos, "annotated image")
    written += f" and {counted(videos, 'annotated video')}" if videos else ""
    kept = f" ({found.kept} from an earlier call)" if found.kept else ""
    lines = [f"{out}: {written}{kept}"]
    kinds = ["*_masks.png"] * (len(found.pictures) > videos) + ["*.mp4_masks/*.png"] * (videos > 0)
    if label_maps and kinds:
        lines.append(f"{out}: label maps, {' and '.join(kinds)}")
    drawn = f"{found.drawn} of them drawn (score of at least {threshold:g})"
    if found.detections and not found.drawn:
        rounded = (f"{found.best_score:.{digits}g}" for digits in range(2, 18))
        best = next(text for text in rounded if float(text) < threshold)
        drawn = (
            f"none drawn: the highest score is {best}, less than --threshold {threshold}; "
            "lower it and add --overwrite"
        )
    lines.append(f"{out / 'predictions.json'}: {counted(found.detections, 'detection')}, {drawn}")
    return "\n".join(lines)
