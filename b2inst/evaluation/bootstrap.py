"""Confidence intervals of AP differences: paired bootstrap over images, and training seeds.

AP is exact on each resample: an image drawn m times counts as m copies.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple, Unpack

import numpy as np
from scipy.special import stdtrit

from b2inst.evaluation.average_precision import (
    AREAS,
    COCO_AREAS,
    PREFIXES,
    BoundaryIoUs,
    EvaluationOptions,
    Metrics,
    load_checked,
    read_metrics,
    run_evaluators,
    warn_of_limit,
)
from b2inst.evaluation.ground_truth import (
    GROUPS,
    Annotations,
    load_ground_truth,
    touching_and_isolated,
)
from b2inst.evaluation.matches import match, weighted_precision
from b2inst.evaluation.predictions import EvaluationError, Prediction
from b2inst.evaluation.results import read_results

_THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}

#: Group, kind, area range and IoU thresholds of each metric.
_METRICS = {
    group + prefix + name: (group, kind, AREAS.get(name, "all"), _THRESHOLDS.get(name, slice(None)))
    for group, (kind, prefix), name in product(
        ("", *GROUPS), PREFIXES.items(), (*_THRESHOLDS, *AREAS)
    )
    if not group or kind != "bbox"  # the box of all ignored objects would cover the others
}

#: What ``compare`` compares.
COMPARED = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("boundary_AP", "boundary_AP50", "boundary_AP75"),
    *("box_AP", "box_AP50", "box_AP75"),
)


class Interval(NamedTuple):
    """Confidence interval of a difference of APs, in percentage points."""

    mean: float  #: difference on the original images; mean over seeds
    low: float
    high: float


@dataclass(frozen=True)
class NoiseBand:
    """A difference of APs in percentage points, with its confidence intervals."""

    band: Interval  #: over images and seeds; over images alone for a single seed
    images: Interval  #: over images, for the trained models
    seed_sd: float | None  #: sample standard deviation of the seeds' differences; None for one seed


def noise_band(
    runs_a: Sequence[np.ndarray], runs_b: Sequence[np.ndarray], *, level: float = 0.95
) -> NoiseBand | None:
    """Compute the difference ``a - b`` of a metric over paired runs.

    Combines the percentile interval over images with Student's interval over the seeds'
    differences: the distances from the mean are added as squares (Zou & Donner 2008).

    Args:
        runs_a: Output of :func:`resample_ap` for each run of model a.
        runs_b: The same for model b, with seeds in the same order.
        level: Confidence level, in (0, 1).

    Returns:
        None if there is no ground truth for the metric.

    Raises:
        EvaluationError: There is no run, or the models have different numbers of runs.
    """
    count = len(runs_a)
    if count != len(runs_b) or not count:
        raise EvaluationError(f"{count} and {len(runs_b)} runs to compare; give as many of each")
    resampled = np.mean(runs_a, axis=0) - np.mean(runs_b, axis=0)
    mean = float(resampled[0])
    if math.isnan(mean):
        return None
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(resampled[1:], [tail, 100 - tail]).tolist()
    images = Interval(mean, low, high)
    if count == 1:
        return NoiseBand(band=images, images=images, seed_sd=None)
    sd = statistics.stdev(float(a[0] - b[0]) for a, b in zip(runs_a, runs_b, strict=True))
    seeds = float(stdtrit(count - 1, (1 + level) / 2)) * sd / math.sqrt(count)
    return NoiseBand(band=combined(images, seeds), images=images, seed_sd=sd)


def combined(images: Interval, seeds: float) -> Interval:
    """Widen an interval over images by the distance of Student's over seeds, added as squares."""
    mean, low, high = images
    below, above = (math.hypot(max(side, 0.0), seeds) for side in (mean - low, high - mean))
    return Interval(mean, mean - below, mean + above)


def resample_ap(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    metrics: Sequence[str] = ("AP",),
    resamples: int = 1000,
    seed: int = 0,
    **options: Unpack[EvaluationOptions],
) -> dict[str, np.ndarray]:
    """Compute metrics of one run on the original images and on bootstrap resamples of them.

    Resample i has the same images for all runs on the same data with the same seed.

    Args:
        predictions: As for ``evaluate``.
        annotations: As for ``evaluate``.
        metrics: Names of metrics as returned by ``evaluate``, such as "touching_boundary_AP".
        resamples: Number of resamples.
        seed: Random seed of the resamples.
        **options: As for ``evaluate``.

    Returns:
        For each metric ``resamples + 1`` values in percent, the first on the original images; NaN
        without ground truth.

    Raises:
        EvaluationError: A metric is unknown, or predictions or annotations are invalid.
    """
    return evaluate_and_resample(
        predictions, annotations, metrics=metrics, resamples=resamples, seed=seed, **options
    )[1]


def evaluate_and_resample(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    metrics: Sequence[str],
    resamples: int,
    seed: int,
    known: BoundaryIoUs | None = None,
    **options: Unpack[EvaluationOptions],
) -> tuple[Metrics, dict[str, np.ndarray]]:
    """Compute what ``evaluate`` and ``resample_ap`` do, with one run of the evaluators.

    The former without groups, of those kinds alone that ``metrics`` are of; ``known`` is as for
    ``run_evaluators``.
    """
    if unknown := [metric for metric in metrics if metric not in _METRICS]:
        raise EvaluationError(f"unknown metric {unknown[0]!r}; known: {', '.join(_METRICS)}")
    wanted = {metric: _METRICS[metric] for metric in metrics}
    truth = load_checked(predictions, annotations)
    weights = draw_weights(len(truth.imgs), resamples=resamples, seed=seed)
    ranges = {"all": (0.0, 1e10), **(options.get("area_ranges") or COCO_AREAS)}
    grouped = any(group for group, *_ in wanted.values())
    known = {} if known is None else known
    values: Metrics = {}
    precision = {}
    for group, part in {"": truth, **(touching_and_isolated(truth) if grouped else {})}.items():
        needed = {(kind, area) for g, kind, area, _ in wanted.values() if g == group}
        kinds = [kind for kind in PREFIXES if kind in {kind for kind, _ in needed}]
        evaluators = run_evaluators(part, predictions, kinds, known=known, **options)
        if not group:
            values = read_metrics(evaluators)
        for kind, area in needed:
            matches = match(evaluators[kind], area=ranges[area])
            precision[group, kind, area] = weighted_precision(matches, weights)
    resampled = {
        metric: 100 * precision[group, kind, area][:, thresholds].mean(axis=1)
        for metric, (group, kind, area, thresholds) in wanted.items()
    }
    return values, resampled


def draw_weights(images: int, *, resamples: int, seed: int) -> np.ndarray:
    """Return how often each image is drawn: (1 + resamples)×images, in the first row once each."""
    drawn = np.random.default_rng(seed).integers(images, size=(resamples, images))
    rows = (np.arange(images), *drawn)
    return np.stack([np.bincount(row, minlength=images) for row in rows]).astype(np.int32)


@dataclass(frozen=True)
class Comparison:
    """A metric of two models, in percent, with one value per file."""

    first: list[float]
    second: list[float]
    difference: NoiseBand | None  #: second minus first; None without ground truth


def compare(
    first: Sequence[Path],
    second: Sequence[Path],
    annotations: Annotations,
    *,
    metrics: Sequence[str] = COMPARED,
    resamples: int = 1000,
    **options: Unpack[EvaluationOptions],
) -> dict[str, Comparison]:
    """Compare two models on the same images, by metric.

    Each has prediction files (see ``read_results``), one per training seed in the same order. An
    EvaluationError of any of them is raised before any evaluation. Warns if one has detections in
    clearly fewer images with objects than the other, as if some had not been predicted.
    """
    if len(first) != len(second):
        both = f"{len(first)} and {len(second)}"
        raise EvaluationError(f"{both} files to compare; give as many of each, one a seed")
    truth = load_ground_truth(annotations)
    warn_of_limit(truth, max_detections=options.get("max_detections", 100))
    if len(truth.imgs) == 1:
        warnings.warn("1 image: intervals over images have no width, and say nothing", stacklevel=2)
    files = (*first, *second)  # read twice, since the detections of all may not fit in memory
    images = {file: {record["image_id"] for record in read_results(file, truth)} for file in files}
    for one, other in combinations(images, 2):
        if images[one] and images[other] and not images[one] & images[other]:
            raise EvaluationError(
                f"{other}: has no image in common with {one}; predict both on the same images"
            )
    annotated = {image for image, objects in truth.imgToAnns.items() if objects}
    for pair in zip(first, second, strict=True):
        fewer, more = sorted((len(images[file] & annotated), str(file)) for file in pair)
        if 10 * (more[0] - fewer[0]) > len(annotated):
            warnings.warn(
                f"of {len(annotated)} images with objects, {fewer[1]} has detections in {fewer[0]} "
                f"and {more[1]} in {more[0]}; check that both are predicted on all images",
                stacklevel=2,
            )

    def resampled(file: Path) -> dict[str, np.ndarray]:
        found = read_results(file, truth)
        return resample_ap(found, truth, metrics=metrics, resamples=resamples, **options)

    a, b = (list(map(resampled, files)) for files in (first, second))
    return {
        metric: Comparison(
            first=[float(run[metric][0]) for run in a],
            second=[float(run[metric][0]) for run in b],
            difference=noise_band([run[metric] for run in b], [run[metric] for run in a]),
        )
        for metric in metrics
    }
