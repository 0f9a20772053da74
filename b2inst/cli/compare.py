"""``b2inst compare``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2inst.cli.options import (
    AnnotationsOption,
    BoundaryPixelsOption,
    CrowdsAsInstancesOption,
    MaxDetectionsOption,
    SkipBadOption,
    SplitOption,
    TrainSplitOption,
    ValFractionOption,
    read_split,
)

if TYPE_CHECKING:
    from b2inst.evaluation.compare import Comparison


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="predictions.jsonl.gz, or any tool's COCO .json; a comma between seeds.",
        ),
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The same of the other model; as many, same order.")
    ],
    data: Annotated[Path | None, typer.Option("--data", help="COCO-format folder.")] = None,
    split: SplitOption = None,
    train_split: TrainSplitOption = None,
    val_fraction: ValFractionOption = None,
    annotations: AnnotationsOption = None,
    skip_bad: SkipBadOption = False,
    crowds_as_instances: CrowdsAsInstancesOption = False,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="How often the images are drawn.")
    ] = 1000,
    max_detections: MaxDetectionsOption = None,
    boundary_pixels: BoundaryPixelsOption = None,
) -> None:
    """Differences in AP of two models, and which of them may be noise."""
    from b2inst.evaluation.compare import compare as compare_files

    truth = read_split(
        data,
        annotations=annotations,
        with_images=False,
        train=train_split,
        val=split,
        val_fraction=val_fraction,
        skip_bad=skip_bad,
        crowds_as_instances=crowds_as_instances,
    ).require_instances()
    a, b = ([Path(name) for name in names.split(",") if name] for names in (first, second))
    found = compare_files(
        a,
        b,
        truth,
        resamples=resamples,
        max_detections=max_detections or 100,
        boundary_pixels=boundary_pixels,
    )
    typer.echo(comparison_text(found, resamples=resamples))


def comparison_text(comparisons: Mapping[str, Comparison], *, resamples: int) -> str:
    """A line a metric, and how to read it."""
    from b2inst.experiments.tables.rendering import NOISE, difference_text
    from b2inst.experiments.tables.table_result import NOTHING

    lines = [["", "A", "B", "B − A [95 %]"]]
    for metric, found in comparisons.items():
        noise = found.difference
        if noise is None:
            lines.append([metric.replace("_", " "), NOTHING, NOTHING, NOTHING])
            continue
        difference = difference_text(noise.band.mean, (noise.band.low, noise.band.high))
        lines.append(
            [metric.replace("_", " "), _mean(found.first), _mean(found.second), difference]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    seeds = len(next(iter(comparisons.values())).first)
    source = f"a paired bootstrap over images ({resamples} resamples)"
    source += (
        f" and Student's interval over the {seeds} seeds' own differences, taken together"
        if seeds > 1
        else "; how much results vary from seed to seed is not in it"
    )
    text.append(f"Interval: {source}. {NOISE}: it has zero in it, the difference may be noise.")
    return "\n".join(line.rstrip() for line in text)


def _mean(values: list[float]) -> str:
    import statistics

    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"
