"""What is measured of a run: its predictions, and its model while it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from b2inst.data import CocoIndex
from b2inst.evaluation import (
    Metrics,
    Prediction,
    best_threshold,
    evaluate,
    ranked_by_class,
    read_predictions,
    resample_counts,
    swallowed_share,
    write_predictions,
)
from b2inst.evaluation.average_precision import BoundaryIoUs, warn_of_limit
from b2inst.evaluation.bootstrap import evaluate_and_resample
from b2inst.evaluation.ground_truth import load_ground_truth, touching
from b2inst.experiments.runs import code_version
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import CLASS_RANKED, GROUPS, RANKED
from b2inst.models import Segmenter
from b2inst.ops.distributed import from_rank_zero

#: Bootstrap resamples of the images that intervals are read from; the same for every run.
RESAMPLES = 1000
_RESAMPLING: dict[str, Any] = {"resamples": RESAMPLES, "seed": 0}


class Measurement(NamedTuple):
    """Metrics of a run on a split."""

    metrics: Metrics
    resampled: dict[str, np.ndarray]  #: ``METRICS``, as ``resample_ap`` gives them
    facts: dict[str, Any]  #: of the split's objects, and the score threshold


def measure(
    detections: list[Prediction],
    index: CocoIndex,
    spec: RunSpec,
    *,
    tuning: tuple[list[Prediction], CocoIndex] | None = None,
) -> Measurement:
    """Measure predictions as a run's spec says; a score threshold is chosen on ``tuning``."""
    truth = load_ground_truth(index)
    warn_of_limit(truth, max_detections=spec.max_detections)
    known: BoundaryIoUs = {}
    options: dict[str, Any] = {**_RESAMPLING, **_limits(spec), "known": known}
    options["area_ranges"] = area_ranges(spec.data.area_bounds)
    metrics, resampled = evaluate_and_resample(
        detections, truth, metrics=(*RANKED, *GROUPS), **options
    )
    by_class = resampled
    if any("iou_score" in d or "boundary_score" in d for d in detections):
        ranked, names = ranked_by_class(detections), tuple(CLASS_RANKED)
        _, by_class = evaluate_and_resample(ranked, truth, metrics=names, **options)
    resampled |= {name: by_class[metric] for metric, name in CLASS_RANKED.items()}
    objects = sum(index.class_counts().values())
    facts = {
        "objects": objects,
        "touching": len(touching(truth)) / max(objects, 1),
        "swallowed": swallowed_share(truth, boundary_pixels=spec.data.boundary_pixels),
    }
    if tuning is not None:
        threshold = facts["score_threshold"] = best_threshold(*tuning)
        resampled |= resample_counts(detections, truth, threshold=threshold, **_RESAMPLING)
    values = {name: float(samples[0]) for name, samples in resampled.items()}
    metrics |= {n: None if np.isnan(value) else value for n, value in values.items()}
    return Measurement(metrics, resampled, facts)


def evaluation_settings(spec: RunSpec) -> dict[str, Any]:
    """Return what decides the metrics of given predictions."""
    return {
        "area_bounds": list(spec.data.area_bounds),
        "boundary_pixels": spec.data.boundary_pixels,
        "resamples": RESAMPLES,
        "code": code_version.EVALUATION,
    }


def area_ranges(bounds: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Return the areas in pixels² of small, medium and large instances."""
    return {"small": (0, bounds[0]), "medium": bounds, "large": (bounds[1], 1e10)}


def early_subset(index: CocoIndex) -> CocoIndex:
    """Return the part of a split that early looks evaluate: at most 100 evenly spaced images.

    Those with and without instances are in proportion, at least one with.
    """
    n, every = min(len(index), 100), len(index.require_instances())
    filled = index.annotated()
    others = index.subset({image.id for image in index.images} - filled.annotations.keys())
    share = max(1, round(n * len(filled) / every))
    parts = ((filled.images, share), (others.images, n - share))
    return index.subset(
        images[i * len(images) // k].id for images, k in parts for i in range(k) if images
    )


def early_evaluation(
    spec: RunSpec, index: CocoIndex, *, batch: int
) -> Callable[[Segmenter], Metrics]:
    """Return a function that computes a model's mask AP and boundary AP on an ``early_subset``."""
    index = early_subset(index)

    def look(model: Segmenter) -> Metrics:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "predictions.jsonl.gz"
            write_predictions(model, index, path, batch_size=batch, progress=False)
            metrics = from_rank_zero(
                lambda: evaluate(read_predictions(path), index, **_limits(spec))
            )
        return {name: metrics[name] for name in ("AP", "boundary_AP")}

    return look


def _limits(spec: RunSpec) -> dict[str, Any]:
    band = spec.data.boundary_pixels
    return {"max_detections": spec.max_detections, "boundary_pixels": band}
