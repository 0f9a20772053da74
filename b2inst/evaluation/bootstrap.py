"""Confidence intervals of AP differences: paired bootstrap over images, and training seeds.

Each resample draws as many images as there are, with replacement, and both models are evaluated on
it, so that the variation of the difference excludes the difficulty of the drawn images. AP is exact
on each resample: an image drawn m times counts as m copies.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, Unpack

import numpy as np
from scipy.special import stdtrit

from b2inst.evaluation.average_precision import (
    AREAS,
    COCO_AREAS,
    PREFIXES,
    EvaluationOptions,
    load_checked,
    run_evaluators,
)
from b2inst.evaluation.ground_truth import GROUPS, Annotations, touching_and_isolated
from b2inst.evaluation.matches import match, weighted_precision
from b2inst.evaluation.predictions import EvaluationError, Prediction

_THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}

#: Group, kind, area range and IoU thresholds of each metric.
_METRICS = {
    group + prefix + name: (group, kind, AREAS.get(name, "all"), _THRESHOLDS.get(name, slice(None)))
    for group, (kind, prefix), name in product(
        ("", *GROUPS), PREFIXES.items(), (*_THRESHOLDS, *AREAS)
    )
    if not group or kind != "bbox"  # the box of all ignored objects would cover the others
}


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

    @property
    def inside(self) -> bool:
        """Whether the difference is not statistically significant."""
        return self.band.low <= 0 <= self.band.high


def noise_band(
    runs_a: Sequence[np.ndarray], runs_b: Sequence[np.ndarray], *, level: float = 0.95
) -> NoiseBand | None:
    """Compute the difference ``a - b`` of a metric over paired runs.

    Combines the percentile interval over images with Student's interval over the seeds'
    differences: the distances from the mean are added as squares (Zou & Donner 2008, "Construction
    of confidence limits about effect measures", Statistics in Medicine 27).

    Args:
        runs_a: Output of :func:`resample_ap` for each run of model a.
        runs_b: The same for model b; the i-th runs of both were trained with the same seed.
        level: Confidence level, in (0, 1).

    Returns:
        None if there is no ground truth for the metric.

    Raises:
        EvaluationError: There is no run, or the models have different numbers of runs.
    """
    count = len(runs_a)
    if count != len(runs_b) or not count:
        raise EvaluationError(
            f"{count} and {len(runs_b)} runs to compare; give as many of each, one a seed"
        )
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
    below, above = (math.hypot(max(side, 0.0), seeds) for side in (mean - low, high - mean))
    return NoiseBand(band=Interval(mean, mean - below, mean + above), images=images, seed_sd=sd)


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
        metrics: Names of metrics as returned by ``evaluate``, such as "AP", "AP75", "APs",
            "boundary_AP", "box_AP50" or "touching_boundary_AP".
        resamples: Number of resamples.
        seed: Random seed of the resamples.
        **options: As for ``evaluate``.

    Returns:
        For each metric ``resamples + 1`` values in percent, the first on the original images; NaN
        without ground truth.

    Raises:
        EvaluationError: A metric is unknown, or predictions or annotations are invalid.
    """
    if unknown := [metric for metric in metrics if metric not in _METRICS]:
        raise EvaluationError(
            f"unknown metric {unknown[0]!r}; known: {', '.join((*_THRESHOLDS, *AREAS))}, alone or "
            "after 'boundary_' or 'box_', and those of masks and boundaries after 'touching_' or "
            "'isolated_'"
        )
    wanted = {metric: _METRICS[metric] for metric in metrics}
    truth = load_checked(predictions, annotations)
    weights = draw_weights(len(truth.imgs), resamples=resamples, seed=seed)
    ranges = {"all": (0.0, 1e10), **(options.get("area_ranges") or COCO_AREAS)}
    parts = {"": truth}
    if any(group for group, *_ in wanted.values()):
        parts |= touching_and_isolated(truth)
    precision = {}
    for group, part in parts.items():
        needed = {(kind, area) for g, kind, area, _ in wanted.values() if g == group}
        evaluators = run_evaluators(part, predictions, {kind for kind, _ in needed}, **options)
        for kind, area in needed:
            categories = match(evaluators[kind], area=ranges[area])
            precision[group, kind, area] = weighted_precision(categories, weights)
    return {
        metric: 100 * precision[group, kind, area][:, thresholds].mean(axis=1)
        for metric, (group, kind, area, thresholds) in wanted.items()
    }


def draw_weights(images: int, *, resamples: int, seed: int) -> np.ndarray:
    """Return how often each image is drawn: (1 + resamples)×images, in the first row once each."""
    generator = np.random.default_rng(seed)
    draws = [generator.integers(images, size=images) for _ in range(resamples)]
    drawn = [np.bincount(draw, minlength=images) for draw in draws]
    return np.stack([np.ones(images, dtype=np.int64), *drawn]).astype(np.int32)
