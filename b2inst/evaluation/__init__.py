"""Mask, boundary and box AP, prediction files and paired bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.evaluation.average_precision import COCO_AREAS, AreaRanges, Kind, Metrics, evaluate
    from b2inst.evaluation.bootstrap import Interval, paired_bootstrap, paired_interval, resample_ap
    from b2inst.evaluation.boundary_overlap import swallowed_share
    from b2inst.evaluation.counts import Counts, best_threshold, count_matches, resample_counts
    from b2inst.evaluation.errors import EvaluationError
    from b2inst.evaluation.inference import write_predictions
    from b2inst.evaluation.predictions import (
        Prediction,
        PredictionWriter,
        ranked_by_class,
        read_predictions,
        to_coco_json,
        to_records,
    )

__all__ = [
    "COCO_AREAS",
    "AreaRanges",
    "Counts",
    "EvaluationError",
    "Interval",
    "Kind",
    "Metrics",
    "Prediction",
    "PredictionWriter",
    "best_threshold",
    "count_matches",
    "evaluate",
    "paired_bootstrap",
    "paired_interval",
    "ranked_by_class",
    "read_predictions",
    "resample_ap",
    "resample_counts",
    "swallowed_share",
    "to_coco_json",
    "to_records",
    "write_predictions",
]

__getattr__, __dir__ = lazy_names(__name__, __file__)
