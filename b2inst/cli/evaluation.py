"""``b2inst eval``, ``b2inst compare``, ``b2inst submit`` and ``b2inst bench``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

import b2inst
from b2inst import evaluation
from b2inst.cli import options as opt
from b2inst.data.wording import counted, folded

if TYPE_CHECKING:
    from b2inst.data import CocoIndex
    from b2inst.evaluation.bootstrap import Comparison

_KINDS = {"": "mask", "boundary_": "boundary", "box_": "box"}
_GROUPS = {
    f"{group}_{prefix}": f"{group} {_KINDS[prefix]}"
    for group in ("touching", "isolated")
    for prefix in ("", "boundary_")
}


@dataclass(frozen=True, kw_only=True)
class _Inference:
    """How weights predict."""

    batch: Annotated[int, Option(min=1, help="Number of images per batch.")] = 1
    precision: opt.Precision = "float32"
    device: opt.Device = "auto"


@opt.with_groups
def evaluate(
    file: Annotated[Path, Argument(help="Weights, or predictions in COCO's results format.")],
    split: opt.SplitOptions,
    inference: _Inference,
    max_detections: opt.MaxDetections = None,
    boundary_pixels: opt.BoundaryPixels = None,
    groups: Annotated[
        bool, Option("--groups", help="Add AP of touching and isolated objects.")
    ] = False,
    out: Annotated[Path | None, Option(help="Folder for predictions and metrics.")] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Compute mask, boundary and box AP of a model or of predictions.

    Predictions are a predictions.jsonl.gz file of b2inst, or a COCO results file (.json) of any
    tool. With --val-fraction, uses the images that train holds out with the same fraction.
    """
    from b2inst.evaluation.ground_truth import load_ground_truth
    from b2inst.evaluation.results import SUFFIXES, read_results
    from b2inst.experiments.runs.store import write_json

    predicted = file.name.lower().endswith(SUFFIXES)
    if not predicted and "json" in "".join(file.suffixes).lower():
        raise evaluation.EvaluationError(
            f"{file}: not a prediction file; give one of {', '.join(SUFFIXES)}"
        )
    written = ["metrics.json"] if predicted else ["predictions.jsonl.gz", "metrics.json"]
    if out is not None:
        _check_new(*(out / name for name in written), overwrite=overwrite)
    index = opt.read_split(**vars(split), with_images=not predicted).require_instances()
    objects = load_ground_truth(index)
    limit = max_detections or 100
    with tempfile.TemporaryDirectory() as temporary:
        predictions = file
        if not predicted:
            predictions = (out or Path(temporary)) / "predictions.jsonl.gz"
            limit = _predict(file, index, predictions, inference, max_detections)
        metrics = evaluation.evaluate(
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


@opt.with_groups
def compare(
    first: Annotated[str, Argument(metavar="A", help="Predictions of A, one file per seed: a,b.")],
    second: Annotated[
        str, Argument(metavar="B", help="Predictions of B, seeds in the same order.")
    ],
    split: opt.SplitOptions,
    resamples: Annotated[int, Option(min=100, help="Number of bootstrap resamples.")] = 1000,
    max_detections: Annotated[int, Option(min=1, help="Maximum per image and class.")] = 100,
    boundary_pixels: opt.BoundaryPixels = None,
) -> None:
    """Compare the AP of two models, with confidence intervals.

    Predictions are predictions.jsonl.gz files of b2inst, or COCO results files (.json) of any tool.
    """
    from b2inst.evaluation.bootstrap import compare as compare_files

    index = opt.read_split(**vars(split), with_images=False).require_instances()
    a, b = ([Path(name) for name in names.split(",") if name] for names in (first, second))
    found = compare_files(
        a,
        b,
        index,
        resamples=resamples,
        max_detections=max_detections,
        boundary_pixels=boundary_pixels,
    )
    typer.echo(comparison_text(found, resamples=resamples))


@opt.with_groups
def submit(
    weights: Annotated[Path, Argument(help="Weights file.")],
    annotations: Annotated[Path, Option(help="COCO's image_info_test-dev2017.json.")],
    images: Annotated[Path, Option(help="Folder with its images.")],
    out: Annotated[Path, Option(help="Folder to write to.")],
    inference: _Inference,
    name: Annotated[str, Option(help="Name of the method in the file name.")] = "b2inst",
    skip_bad: opt.SkipBad = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Write the results file for COCO's test-dev images."""
    from b2inst.evaluation.results import image_index, submission_path, write_submission

    if not name.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter(f"--name {name}: use letters, digits, - and _ only")
    predictions = out / "predictions.jsonl.gz"
    submission = submission_path(annotations, out, name=name)
    _check_new(predictions, submission, overwrite=overwrite)
    index = image_index(annotations, images, skip_bad=skip_bad)
    for line in folded(index.skipped):
        typer.echo(f"note: {line}", err=True)
    _predict(weights, index, predictions, inference)
    found = write_submission(predictions, submission)
    number = counted(found.total(), "detection")
    typer.echo(f"{submission}: {number} in {len(found)} of {counted(len(index), 'image')}")


@opt.with_groups
def bench(
    models: Annotated[list[str], Argument(help="Model names or weights files.")],
    split: opt.SplitOptions,
    size: Annotated[str | None, Option(help="HEIGHTxWIDTH to fit images into.")] = None,
    images: Annotated[
        int | None, Option(min=1, help="Number of images (default: 50, GPU: 200).")
    ] = None,
    detections: Annotated[
        int, Option(min=1, help="Detections per image of untrained models.")
    ] = 100,
    option: opt.ModelOptions = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "float32",
    json: Annotated[Path | None, Option(help="JSON file to write.")] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Measure the speed of models, by stage.

    Times one image at a time, from the image to full-size masks. Without --data, the images are
    procedural scenes. If both a B2Inst model and its baseline are given, they are compared.
    """
    from b2inst.benchmark import benchmark, composed_samples, index_samples, to_text
    from b2inst.experiments.runs.provenance import describe_machine
    from b2inst.experiments.runs.store import write_json
    from b2inst.inference import resolve_device

    limits = None if size is None else _parse_size(size)
    if json is not None:
        _check_new(json, overwrite=overwrite)
    device = resolve_device(device)
    count = images or (200 if device.startswith("cuda") else 50)
    if split.data is None:
        samples, source = composed_samples(count), "procedural scenes"
    else:
        index = opt.read_split(**vars(split)).require_instances()
        samples, source = index_samples(index.annotated(), count), index.image_dir.name
    result = benchmark(
        models,
        options=opt.parse_options(option),
        size=limits,
        samples=samples,
        image_source=source,
        detections=detections,
        device=device,
        precision=precision,
    )
    typer.echo(to_text(result))
    if json is not None:
        write_json(json, result.to_json() | {"provenance": describe_machine()})
        typer.echo(f"{json}: results and provenance")


def _check_new(*paths: Path, overwrite: bool) -> None:
    """Check that no output file exists yet, before the work of making it."""
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(f"{path}: already exists; choose another, or add --overwrite")


def _predict(
    weights: Path,
    index: CocoIndex,
    file: Path,
    inference: _Inference,
    max_detections: int | None = None,
) -> int:
    """Write the predictions for the images of an index; return the limit per image."""
    from b2inst.evaluation.inference import check_classes
    from b2inst.inference import resolve_device

    model = b2inst.load_model(
        weights,
        device=resolve_device(inference.device),
        precision=inference.precision,
        max_detections=max_detections,
    )
    check_classes(model, index)
    evaluation.write_predictions(model, index, file, batch_size=inference.batch)
    return model.max_detections


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().replace("×", "x").partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 32):
        raise typer.BadParameter(f"--size {text}: write HEIGHTxWIDTH, such as 800x1333")
    return int(height), int(width)


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
    between_seeds = "without the variation between seeds"
    if seeds > 1:
        between_seeds = (
            f"and Student's interval over the differences of the {seeds} seeds, combined"
        )
    return (
        f"{aligned(lines)}\n[…]: 95 % interval from a paired bootstrap over images ({resamples} "
        f"resamples), {between_seeds}.\n{NOISE}: the interval contains zero, so the difference is "
        "not statistically significant."
    )
