"""``b2inst eval``, ``b2inst predict`` and ``b2inst submit``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from b2inst.cli.errors import check_new
from b2inst.cli.metrics import metrics_text
from b2inst.cli.options import (
    AnnotationsOption,
    BoundaryPixelsOption,
    CrowdsAsInstancesOption,
    DeviceOption,
    ImagesOption,
    MaxDetectionsOption,
    OverwriteOption,
    PrecisionOption,
    SkipBadOption,
    SplitOption,
    TileOption,
    TrainSplitOption,
    ValFractionOption,
    coco_data,
    read_split,
)


def evaluate_weights(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="model.safetensors, predictions.jsonl.gz, or any tool's COCO results .json.",
        ),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="COCO-format folder.")] = None,
    split: SplitOption = None,
    train_split: TrainSplitOption = None,
    val_fraction: ValFractionOption = None,
    annotations: AnnotationsOption = None,
    images: ImagesOption = None,
    skip_bad: SkipBadOption = False,
    crowds_as_instances: CrowdsAsInstancesOption = False,
    max_detections: MaxDetectionsOption = None,
    boundary_pixels: BoundaryPixelsOption = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="Also of objects that touch another, and of the rest.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep predictions and metrics in this folder.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images predicted together.")] = 1,
    overwrite: OverwriteOption = False,
    precision: PrecisionOption = "float32",
    device: DeviceOption = None,
) -> None:
    """Mask, boundary and box AP of a model, or of predictions.

    The data are in COCO format, and their split is the one that train validates on.

    With --val-fraction, on the images that training with the same fraction has held out.
    """
    from b2inst.evaluation import evaluate
    from b2inst.evaluation.ground_truth import load_ground_truth
    from b2inst.evaluation.results import SUFFIXES, read_results
    from b2inst.experiments.runs.store import write_json

    predicted = weights.name.endswith(SUFFIXES)
    if out is not None:
        written = ["metrics.json"] if predicted else ["predictions.jsonl.gz", "metrics.json"]
        check_new(*(out / name for name in written), overwrite=overwrite)
    index = read_split(
        data,
        annotations=annotations,
        images=images,
        with_images=not predicted,
        train=train_split,
        val=split,
        val_fraction=val_fraction,
        skip_bad=skip_bad,
        crowds_as_instances=crowds_as_instances,
    ).require_instances()
    truth = load_ground_truth(index)
    limit = max_detections or 100
    with tempfile.TemporaryDirectory() as temporary:
        predictions = weights if predicted else (out or Path(temporary)) / "predictions.jsonl.gz"
        if not predicted:
            from b2inst.evaluation import write_predictions
            from b2inst.evaluation.inference import check_classes
            from b2inst.inference import resolve_device
            from b2inst.weights import load_model

            model = load_model(weights, device=resolve_device(device or "auto"))
            model.precision = precision
            if max_detections is not None:
                model.max_detections = max_detections
            limit = model.max_detections
            check_classes(model, index)
            write_predictions(model, index, predictions, batch_size=batch)
        metrics = evaluate(
            read_results(predictions, truth),
            truth,
            max_detections=limit,
            boundary_pixels=boundary_pixels,
            groups=groups,
        )
    typer.echo(metrics_text(metrics, groups=groups))
    if out is not None:
        write_json(out / "metrics.json", metrics)
        typer.echo(f"{out}: {', '.join(written)}")


def predict(
    weights: Annotated[Path, typer.Argument(help="model.safetensors")],
    out: Annotated[Path, typer.Option("--out", help="Folder for pictures and predictions.json.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files, or folders of them.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="COCO-format folder: the images of a split.")
    ] = None,
    split: SplitOption = None,
    train_split: TrainSplitOption = None,
    val_fraction: ValFractionOption = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Least score that is drawn.")
    ] = 0.3,
    label_maps: Annotated[
        bool,
        typer.Option("--label-maps", help="Also write a 16-bit PNG that numbers the instances."),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Files that cannot be read are no error.")
    ] = False,
    overwrite: OverwriteOption = False,
    max_detections: MaxDetectionsOption = None,
    tile: TileOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = None,
) -> None:
    """Predict images: annotated pictures, and one COCO-format file.

    Folders are searched with their subfolders, which --out has too.

    Run again with the same --out, it goes on: images that are done are kept, others are added.
    """
    from b2inst.data import DataError
    from b2inst.inference import resolve_device
    from b2inst.viz.predict import find_images, predict_files
    from b2inst.weights import load_model
    from b2inst.weights.files import model_card

    if bool(images) == (data is not None):
        raise typer.BadParameter("give images, or --data for those of a split")
    category_ids = model_card(weights)["category_ids"]
    if images:
        coco_data(None, train=train_split, val=split, val_fraction=val_fraction)
        paths = find_images(images, outside=out, skip_bad=skip_bad)
        folders = [path for path in images if path.is_dir()]
    else:
        index = read_split(
            data, train=train_split, val=split, val_fraction=val_fraction, skip_bad=skip_bad
        )
        paths, folders = [record.path for record in index.images], [index.image_dir]
    model = load_model(weights, device=resolve_device(device or "auto"))
    model.tile, model.precision = tile, precision
    if max_detections is not None:
        model.max_detections = max_detections
    found = predict_files(
        model,
        paths,
        out,
        folders=folders,
        category_ids=category_ids,
        score_threshold=threshold,
        label_maps=label_maps,
        overwrite=overwrite,
    )
    kept = f" ({found.kept} of them from before)" if found.kept else ""
    typer.echo(f"{out}: {len(found.pictures)} pictures{kept}, predictions.json")
    if found.full:
        typer.echo(
            f"warning: {found.full} images reached the limit of {model.max_detections} detections; "
            "raise it with --max-detections",
            err=True,
        )
    for line in found.bad if skip_bad else found.bad[1:]:
        typer.echo(f"left out: {line}", err=True)
    if found.bad and not (skip_bad and found.pictures):
        raise DataError(found.bad[0])


def submit(
    weights: Annotated[Path, typer.Argument(help="model.safetensors")],
    annotations: Annotated[
        Path, typer.Option("--annotations", help="image_info_test-dev2017.json, or its like.")
    ],
    images: Annotated[Path, typer.Option("--images", help="Its folder of images, test2017.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for predictions and the file.")],
    name: Annotated[str, typer.Option("--name", help="The method, in the file's name.")] = "b2inst",
    skip_bad: SkipBadOption = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images predicted together.")] = 1,
    overwrite: OverwriteOption = False,
    precision: PrecisionOption = "float32",
    device: DeviceOption = None,
) -> None:
    """Write the results file of test images that COCO's server takes."""
    from b2inst.evaluation import write_predictions
    from b2inst.evaluation.inference import check_classes
    from b2inst.evaluation.submission import image_index, submission_path, write_submission
    from b2inst.inference import resolve_device
    from b2inst.weights import load_model

    if not name.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter(f"--name {name}: letters, digits, - and _ only")
    predictions = out / "predictions.jsonl.gz"
    check_new(predictions, submission_path(annotations, out, name=name), overwrite=overwrite)
    index = image_index(annotations, images, skip_bad=skip_bad)
    for line in index.skipped:
        typer.echo(f"note: {line}", err=True)
    model = load_model(weights, device=resolve_device(device or "auto"))
    model.precision = precision
    check_classes(model, index)
    write_predictions(model, index, predictions, batch_size=batch)
    typer.echo(f"{write_submission(predictions, annotations, out, name=name)}")
