"""Mask, boundary and box AP, prediction files and confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.evaluation.average_precision import Metrics as Metrics
    from b2inst.evaluation.average_precision import evaluate as evaluate
    from b2inst.evaluation.bootstrap import Interval as Interval
    from b2inst.evaluation.bootstrap import noise_band as noise_band
    from b2inst.evaluation.bootstrap import resample_ap as resample_ap
    from b2inst.evaluation.counts import best_threshold as best_threshold
    from b2inst.evaluation.counts import count_matches as count_matches
    from b2inst.evaluation.counts import resample_counts as resample_counts
    from b2inst.evaluation.ground_truth import swallowed_share as swallowed_share
    from b2inst.evaluation.inference import write_predictions as write_predictions
    from b2inst.evaluation.predictions import EvaluationError as EvaluationError
    from b2inst.evaluation.predictions import Prediction as Prediction
    from b2inst.evaluation.predictions import ranked_by_class as ranked_by_class
    from b2inst.evaluation.predictions import read_predictions as read_predictions
    from b2inst.evaluation.predictions import save_predictions as save_predictions
    from b2inst.evaluation.predictions import to_records as to_records

__getattr__, __dir__ = lazy_names(__name__, __file__)
