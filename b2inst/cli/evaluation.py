"""``b2inst eval``, ``b2inst compare`` and ``b2inst submit``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from b2inst.cli.errors import check_new
from b2inst.cli.options import (
    BatchOption,
    BoundaryPixelsOption,
    DeviceOption,
    ImagesOption,
    MaxDetectionsOption,
    OverwriteOption,
    PrecisionOption,
    SkipBadOption,
    TruthOptions,
    read_split,
    with_groups,
)

if TYPE_CHECKING:
    from b2inst.data import CocoIndex
    from b2inst.evaluation.bootstrap import Comparison

_KINDS = {"": "mask", "boundary_": "boundary", "box_": "box"}
_GROUPS = {
    f"{group}_{prefix}": f"{group} {_KINDS[prefix]}"
    for group in ("touching", "isolated")
    for prefix in ("", "boundary_")
}


@with_groups
def evaluate(
    file: Annotated[Path, Argument(help="Weights, or predictions in COCO's results format.")],
    truth: TruthOptions,
    images: ImagesOption = None,
    max_detections: MaxDetectionsOption = None,
    boundary_pixels: BoundaryPixelsOption = None,
    groups: Annotated[
        bool, Option("--groups", help="Also evaluate touching and isolated objects.")
    ] = False,
    out: Annotated[Path | None, Option(help="Folder for predictions and metrics.")] = None,
    batch: BatchOption = 1,
    overwrite: OverwriteOption = False,
    precision: PrecisionOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Compute mask, boundary and box AP of a model or of predictions.

    Predictions are predictions.jsonl.gz of b2inst, or a COCO results file (.json) of any tool.
    With --val-fraction, evaluates on the images that train holds out with the same fraction.
    """
    from b2inst.evaluation import evaluate as evaluate_predictions
    from b2inst.evaluation.ground_truth import load_ground_truth
    from b2inst.evaluation.results import SUFFIXES, read_results
    from b2inst.experiments.runs.store import write_json

    predicted = file.name.endswith(SUFFIXES)
    written = ["metrics.json"] if predicted else ["predictions.jsonl.gz", "metrics.json"]
    if out is not None:
        check_new(*(out / name for name in written), overwrite=overwrite)
    index = read_split(**vars(truth), images=images, with_images=not predicted).require_instances()
    objects = load_ground_truth(index)
    limit = max_detections or 100
    with tempfile.TemporaryDirectory() as temporary:
        predictions = file
        if not predicted:
            predictions = (out or Path(temporary)) / "predictions.jsonl.gz"
            limit = _predict(
                *(file, index, predictions),
                batch=batch,
                device=device,
                precision=precision,
                max_detections=max_detections,
            )
        metrics = evaluate_predictions(
            read_results(predictions, objects),
            objects,
            max_detections=limit,
            boundary_pixels=boundary_pixels,
            groups=groups,
        )
    typer.echo(metrics_text(metrics, groups=groups))
    if out is not None:
        write_json(out / "metrics.json", metrics)
        typer.echo(f"{out}: {', '.join(written)}")


@with_groups
def compare(
    first: Annotated[
        str, Argument(metavar="A", help="Predictions of a model; a comma between seeds.")
    ],
    second: Annotated[
        str, Argument(metavar="B", help="Predictions of the other, seeds in the same order.")
    ],
    truth: TruthOptions,
    resamples: Annotated[int, Option(min=100, help="Number of bootstrap resamples.")] = 1000,
    max_detections: MaxDetectionsOption = None,
    boundary_pixels: BoundaryPixelsOption = None,
) -> None:
    """Compare the AP of two models, with confidence intervals.

    Predictions are predictions.jsonl.gz of b2inst, or a COCO results file (.json) of any tool.
    """
    from b2inst.evaluation.bootstrap import compare as compare_files

    index = read_split(**vars(truth), with_images=False).require_instances()
    a, b = ([Path(name) for name in names.split(",") if name] for names in (first, second))
    found = compare_files(
        a,
        b,
        index,
        resamples=resamples,
        max_detections=max_detections or 100,
        boundary_pixels=boundary_pixels,
    )
    typer.echo(comparison_text(found, resamples=resamples))


def submit(
    weights: Annotated[Path, Argument(help="Weights file.")],
    annotations: Annotated[Path, Option(help="COCO's image_info_test-dev2017.json.")],
    images: Annotated[Path, Option(help="Folder of its images.")],
    out: Annotated[Path, Option(help="Folder to write to.")],
    name: Annotated[str, Option(help="Name of the method, for the file name.")] = "b2inst",
    skip_bad: SkipBadOption = False,
    batch: BatchOption = 1,
    overwrite: OverwriteOption = False,
    precision: PrecisionOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Write the results file for COCO's test-dev images."""
    from b2inst.evaluation.results import image_index, submission_path, write_submission

    if not name.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter(f"--name {name}: use letters, digits, - and _ only")
    predictions = out / "predictions.jsonl.gz"
    check_new(predictions, submission_path(annotations, out, name=name), overwrite=overwrite)
    index = image_index(annotations, images, skip_bad=skip_bad)
    for line in index.skipped:
        typer.echo(f"note: {line}", err=True)
    _predict(weights, index, predictions, batch=batch, device=device, precision=precision)
    typer.echo(f"{write_submission(predictions, annotations, out, name=name)}")


def _predict(
    weights: Path, index: CocoIndex, file: Path, *, batch: int, device: str, **options: Any
) -> int:
    """Write the predictions for the images of an index; return the limit per image."""
    from b2inst.evaluation import write_predictions
    from b2inst.evaluation.inference import check_classes
    from b2inst.inference import resolve_device
    from b2inst.weights import load_model

    model = load_model(weights, device=resolve_device(device), **options)
    check_classes(model, index)
    write_predictions(model, index, file, batch_size=batch)
    return model.max_detections


def metrics_text(metrics: Mapping[str, float | None], *, groups: bool = False) -> str:
    """Format mask, boundary and box AP; with ``groups`` those of touching objects, too."""
    from b2inst.experiments.tables.rendering import aligned
    from b2inst.experiments.tables.table_result import NOTHING

    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    lines = [["", *(f"{name:>5}" for name in names)]]
    for prefix, kind in (_KINDS | _GROUPS if groups else _KINDS).items():
        values = [metrics.get(prefix + name) for name in names]
        lines.append([kind, *(f"{NOTHING if v is None else f'{v:.1f}':>5}" for v in values)])
    return aligned(lines)


def comparison_text(comparisons: Mapping[str, Comparison], *, resamples: int) -> str:
    """Format a line for each metric, and how to read them."""
    from b2inst.experiments.tables.rendering import NOISE, aligned, difference_text
    from b2inst.experiments.tables.table_result import NOTHING, Measured

    lines = [["", "A", "B", "B − A [95 %]"]]
    for metric, found in comparisons.items():
        cells = [NOTHING] * 3
        if found.difference is not None:
            band = found.difference.band
            cells = [Measured.of(values).text() for values in (found.first, found.second)]
            cells.append(difference_text(band.mean, (band.low, band.high)))
        lines.append([metric.replace("_", " "), *cells])
    seeds = len(next(iter(comparisons.values())).first)
    between_seeds = (
        f"and Student's interval over the differences of the {seeds} seeds, combined"
        if seeds > 1
        else "without the variation between seeds"
    )
    return (
        f"{aligned(lines)}\n[…]: 95 % interval from a paired bootstrap over images ({resamples} "
        f"resamples), {between_seeds}.\n{NOISE}: the interval contains zero, so the difference is "
        "not statistically significant."
    )
