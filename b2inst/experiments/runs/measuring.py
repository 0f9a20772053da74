"""What is measured of a run's predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from b2inst.data import CocoIndex
from b2inst.evaluation import (
    Metrics,
    Prediction,
    best_threshold,
    evaluate,
    ranked_by_class,
    resample_ap,
    resample_counts,
    swallowed_share,
)
from b2inst.evaluation.ground_truth import touching
from b2inst.experiments.runs import code_version
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import CLASS_RANKED, GROUPS, METRICS, RANKED, THRESHOLDED

#: Bootstrap resamples of the images that intervals are read from; the same for every run.
RESAMPLES = 1000
_RESAMPLING_SEED = 0


@dataclass
class Measurement:
    """Metrics of a run on a split."""

    metrics: Metrics  #: ``METRICS`` and what else ``evaluate`` gives
    resampled: dict[str, np.ndarray]  #: ``METRICS``, as ``resample_ap`` gives them
    facts: dict[str, Any]  #: of the split's objects, and the score threshold


def measure(
    detections: list[Prediction],
    truth: CocoIndex,
    spec: RunSpec,
    *,
    tuning: tuple[list[Prediction], CocoIndex] | None = None,
) -> Measurement:
    """Measure predictions as a run's spec says.

    Args:
        tuning: predictions and truth of the split that the score threshold is chosen on; without
            it the metrics that need one (``THRESHOLDED``) are left out.
    """
    band = spec.data.boundary_pixels
    rules: dict[str, Any] = {
        "area_ranges": area_ranges(spec.data.area_bounds),
        "max_detections": spec.max_detections,
        "boundary_pixels": band,
    }

    def resample(found: list[Prediction], names: Sequence[str]) -> dict[str, np.ndarray]:
        return resample_ap(
            found, truth, metrics=names, resamples=RESAMPLES, seed=_RESAMPLING_SEED, **rules
        )

    resampled = resample(detections, (*RANKED, *GROUPS))
    rated = any("iou_score" in d or "boundary_score" in d for d in detections)
    by_class = resample(ranked_by_class(detections), tuple(CLASS_RANKED)) if rated else resampled
    resampled |= {name: by_class[metric] for metric, name in CLASS_RANKED.items()}
    objects = sum(not a.crowd for found in truth.annotations.values() for a in found)
    facts = {
        "objects": objects,
        "touching": len(touching(truth)) / max(objects, 1),
        "swallowed": swallowed_share(truth, boundary_pixels=band),
    }
    if tuning is not None:
        facts["score_threshold"] = best_threshold(*tuning)
        resampled |= resample_counts(
            detections,
            truth,
            threshold=facts["score_threshold"],
            resamples=RESAMPLES,
            seed=_RESAMPLING_SEED,
        )
    as_they_are = {name: float(values[0]) for name, values in resampled.items()}
    metrics: Metrics = {n: None if np.isnan(value) else value for n, value in as_they_are.items()}
    with warnings.catch_warnings():
        # ``check_plan`` has said that there are more objects than detections that count.
        warnings.filterwarnings("ignore", message=".* objects of a category: not all can be found")
        others = evaluate(detections, truth, **rules)
    return Measurement(others | metrics, resampled, facts)


def evaluation_settings(spec: RunSpec, split: SplitName) -> dict[str, Any]:
    """What decides the metrics of given predictions for a split."""
    left_out = THRESHOLDED if spec.data.tuning_split(split) is None else ()
    settings = {
        "area_bounds": list(spec.data.area_bounds),
        "resamples": RESAMPLES,
        "resampled": [name for name in METRICS if name not in left_out],
        "code": code_version.EVALUATION,
    }
    if spec.data.boundary_pixels is not None:
        settings["boundary_pixels"] = spec.data.boundary_pixels
    return settings


def area_ranges(bounds: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Areas in pixels² of small, medium and large instances; nothing is larger than 10¹⁰."""
    return {"small": (0, bounds[0]), "medium": bounds, "large": (bounds[1], 1e10)}
