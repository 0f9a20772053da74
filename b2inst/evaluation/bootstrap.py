"""Confidence intervals of AP differences by the paired bootstrap over images.

Two models are compared on the same images: every resample draws as many images as there are, with
replacement, and both models' APs are computed on it. The spread of the difference is then free of
how hard the drawn images are, which is most of the spread of either AP.

AP is exact on each resample: an image drawn m times counts as m copies. (Only the order of
detections of one image and category with equal scores is a choice.) The intervals are for the
choice of *images*; how much a result varies with the training seed shows in several runs' sd.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from faster_coco_eval import COCOeval_faster

from b2inst.evaluation.average_precision import (
    COCO_AREAS,
    PREFIXES,
    AreaRanges,
    Kind,
    load_pair,
    run_evaluator,
)
from b2inst.evaluation.boundary_overlap import boundary_overlaps
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.ground_truth import Annotations
from b2inst.evaluation.matches import CategoryMatches, Overlaps, match
from b2inst.evaluation.predictions import Prediction
from b2inst.evaluation.touching import GROUPS, touching_and_isolated

#: Recall levels at which COCO reads the precision.
RECALLS = np.linspace(0.0, 1.0, 101)

_CELLS = 500_000  # resamples × detections held at a time: stays in the cache, some 20 MB
_THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
_AREAS = {"APs": "small", "APm": "medium", "APl": "large"}


@dataclass(frozen=True)
class Interval:
    """A difference of APs, in percent points."""

    mean: float  #: on the images as they are; mean over seeds
    low: float  #: lower end of the interval
    high: float  #: upper end of the interval

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval leaves no doubt of the sign."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    runs_a: Sequence[list[Prediction]],
    runs_b: Sequence[list[Prediction]],
    annotations: Annotations,
    *,
    metric: str = "AP",
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    max_detections: int = 100,
    boundary_dilation: float = 0.02,
    boundary_pixels: int | None = None,
    area_ranges: AreaRanges | None = None,
    image_ids: Collection[int] | None = None,
) -> Interval | None:
    """Difference ``a - b`` of a metric with its percentile interval over images.

    Args:
        runs_a: predictions of the runs (seeds) of model a; their mean AP is taken.
        runs_b: as many or not, of model b.
        annotations: COCO annotation file, or its content.
        metric: a name as :func:`~b2inst.evaluation.average_precision.evaluate` gives them, such as
            "AP", "AP75", "APs", "boundary_AP", "box_AP50", "touching_boundary_AP".
        resamples: how often the images are drawn.
        seed: of the draws; the same images are drawn for every run.
        level: coverage of the interval, in (0, 1).
        max_detections, boundary_dilation, boundary_pixels, area_ranges, image_ids: as
            ``evaluate``.

    Returns:
        The interval; None where the data have no ground truth for the metric.

    Raises:
        EvaluationError: unknown metric, no run, or invalid predictions.
    """

    def resampled(runs: Sequence[list[Prediction]]) -> list[np.ndarray]:
        return [
            resample_ap(
                run,
                annotations,
                metrics=[metric],
                resamples=resamples,
                seed=seed,
                max_detections=max_detections,
                boundary_dilation=boundary_dilation,
                boundary_pixels=boundary_pixels,
                area_ranges=area_ranges,
                image_ids=image_ids,
            )[metric]
            for run in runs
        ]

    return paired_interval(resampled(runs_a), resampled(runs_b), level=level)


def paired_interval(
    runs_a: Sequence[np.ndarray], runs_b: Sequence[np.ndarray], *, level: float = 0.95
) -> Interval | None:
    """As :func:`paired_bootstrap`, from the output of :func:`resample_ap` for each run.

    A table resamples each run once and compares any two rows with this.
    """
    if not runs_a or not runs_b:
        raise EvaluationError("a paired bootstrap needs at least one run on each side")
    difference = np.mean(runs_a, axis=0) - np.mean(runs_b, axis=0)
    if np.isnan(difference[0]):
        return None
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(difference[1:], [tail, 100 - tail])
    return Interval(mean=float(difference[0]), low=float(low), high=float(high))


def resample_ap(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    metrics: Sequence[str] = ("AP",),
    resamples: int = 1000,
    seed: int = 0,
    max_detections: int = 100,
    boundary_dilation: float = 0.02,
    boundary_pixels: int | None = None,
    area_ranges: AreaRanges | None = None,
    image_ids: Collection[int] | None = None,
) -> dict[str, np.ndarray]:
    """Metrics of one run on the images as they are and on each resample of them.

    Resample i is the same images for every run evaluated on the same data with the same seed.

    Args:
        metrics: names as ``evaluate`` gives them; those of one kind share their work.
        resamples, seed: as :func:`paired_bootstrap`.
        max_detections, boundary_dilation, boundary_pixels, area_ranges, image_ids: as ``evaluate``.

    Returns:
        For each metric ``resamples + 1`` values in percent, the first on the images as they are;
        NaN where there is no ground truth.

    Raises:
        EvaluationError: unknown metric or invalid predictions.
    """
    wanted = [_parse(metric) for metric in metrics]
    truth, chosen = load_pair(predictions, annotations, image_ids=image_ids)
    weights = draw_weights(len(truth.imgs), resamples=resamples, seed=seed)
    weights = np.concatenate([np.ones_like(weights[:1]), weights])
    ranges = {"all": (0.0, 1e5**2)} | dict(area_ranges or COCO_AREAS)
    parts = {"": truth}
    if any(group for group, *_ in wanted):
        parts |= touching_and_isolated(truth)
    evaluators: dict[tuple[str, Kind], COCOeval_faster] = {}
    overlaps: dict[tuple[str, Kind], Overlaps] = {}
    precision: dict[tuple[str, Kind, str], np.ndarray] = {}
    values = {}
    for metric, (group, kind, area, thresholds) in zip(metrics, wanted, strict=True):
        # Boundaries need the masks' matches first.
        source: Literal["segm", "bbox"] = "bbox" if kind == "bbox" else "segm"
        if (group, source) not in evaluators:
            evaluators[group, source] = run_evaluator(
                parts[group],
                chosen,
                kind=source,
                max_detections=max_detections,
                area_ranges=area_ranges,
            )
        evaluator = evaluators[group, source]
        if (group, kind) not in overlaps:
            overlaps[group, kind] = (
                boundary_overlaps(
                    evaluator, boundary_dilation=boundary_dilation, boundary_pixels=boundary_pixels
                )
                if kind == "boundary"
                else evaluator.ious
            )
        if (group, kind, area) not in precision:
            categories = match(evaluator, overlaps=overlaps[group, kind], area=ranges[area])
            precision[group, kind, area] = weighted_precision(categories, weights)
        values[metric] = 100 * precision[group, kind, area][:, thresholds].mean(axis=1)
    return values


def draw_weights(images: int, *, resamples: int, seed: int) -> np.ndarray:
    """How often each image is in each resample: resamples×images int32, rows sum to ``images``."""
    generator = np.random.default_rng(seed)
    return np.stack(
        [
            np.bincount(generator.integers(images, size=images), minlength=images)
            for _ in range(resamples)
        ]
    ).astype(np.int32)


def weighted_precision(categories: list[CategoryMatches], weights: np.ndarray) -> np.ndarray:
    """AP at each IoU threshold, averaged over categories, for B weightings of the images.

    Args:
        weights: B×I int, copies of each image.

    Returns:
        B×T in [0, 1]. A category without annotations in a weighting is left out of the average
        there; NaN where no category has any.
    """
    thresholds = len(categories[0].true_positive) if categories else 10
    total = np.zeros((len(weights), thresholds))
    present = np.zeros(len(weights), dtype=np.int64)
    for category in categories:
        for rows in _chunks(len(weights), max(1, _CELLS // max(1, len(category.image)))):
            positives = weights[rows] @ category.positives
            total[rows] += _category_precision(category, weights[rows], positives)
            present[rows] += positives > 0
    with np.errstate(invalid="ignore"):
        return total / present[:, None]


def _category_precision(
    category: CategoryMatches, weights: np.ndarray, positives: np.ndarray
) -> np.ndarray:
    """AP of a category, B×T; 0 where it has no annotations.

    Interpolated precision at a recall is the greatest precision at that recall or beyond. It is
    reached at a true positive, so the false ones only need to be counted, and a true positive
    stands for all recall levels between the one before it and itself.
    """
    copies = weights[:, category.image]  # B×N
    seen = np.cumsum(copies, axis=1, dtype=np.int32)
    result = np.zeros((len(weights), len(category.true_positive)))
    for t, (true_positive, ignored) in enumerate(
        zip(category.true_positive, category.ignored, strict=True)
    ):
        hits, skipped = np.flatnonzero(true_positive), np.flatnonzero(ignored)
        if not len(hits):
            continue
        found = np.cumsum(copies[:, hits], axis=1, dtype=np.int32)  # B×(true positives)
        counted = seen[:, hits]
        if len(skipped):
            passed = np.pad(np.cumsum(copies[:, skipped], axis=1, dtype=np.int32), ((0, 0), (1, 0)))
            counted = counted - passed[:, np.searchsorted(skipped, hits)]
        precision = found / (counted + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = found / np.maximum(positives, 1)[:, None]
        levels = np.searchsorted(RECALLS, recall, side="right")
        steps = np.diff(levels, axis=1, prepend=0)
        result[:, t] = (best * steps).sum(axis=1) / len(RECALLS)
    return result


def _parse(metric: str) -> tuple[str, Kind, str, slice]:
    """Prefix of the group, kind, area range and IoU thresholds of a metric's name."""
    for group, (kind, prefix) in product(("", *GROUPS), PREFIXES.items()):
        if group and kind == "bbox":  # a box around all that is ignored would hide what is not
            continue
        name = metric.removeprefix(group + prefix)
        if metric == group + prefix + name and name in _THRESHOLDS | _AREAS:
            return group, kind, _AREAS.get(name, "all"), _THRESHOLDS.get(name, slice(None))
    names = ", ".join((*_THRESHOLDS, *_AREAS))
    raise EvaluationError(
        f"unknown metric {metric!r}; known: {names}, alone or after 'boundary_' or 'box_', "
        "and those of masks and boundaries after 'touching_' or 'isolated_'"
    )


def _chunks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
