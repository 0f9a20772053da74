"""Quality of the scoring head's predictions, and the AP that a perfect scoring head would reach.

The true qualities of a detection are measured against the annotation of its class (without crowds)
with the highest mask IoU: that IoU (S_IoU), and the Dice of the boundaries of Eq. 1 (S_boundary) in
pixels of the image. Without overlap they are 0. ``of_object`` excludes these detections and those
with a box IoU below 0.5, since the scoring head is trained on masks of objects only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from pycocotools import mask as coco_mask

from b2inst.evaluation.average_precision import (
    PREFIXES,
    EvaluationOptions,
    load_checked,
    percent,
    run_evaluators,
)
from b2inst.evaluation.boundary_overlap import inner_boundary
from b2inst.evaluation.ground_truth import Annotations, by_pair, code_of
from b2inst.evaluation.predictions import Prediction
from b2inst.ops.quality import EPSILON

#: What a scoring head may predict, and its field in prediction files.
QUALITIES = {"iou": "iou_score", "boundary": "boundary_score"}


@dataclass(frozen=True)
class Ratings:
    """Predicted and true qualities of N detections."""

    class_scores: np.ndarray  #: N in [0, 1]
    scores: np.ndarray  #: N in [0, 1], the ranking score (Eq. 2)
    predicted: dict[str, np.ndarray]  #: N in [0, 1] for each quality that the head predicts
    true: dict[str, np.ndarray]  #: N in [0, 1] for both qualities; 0 without overlap
    of_object: np.ndarray  #: N bool, whether the box IoU with the object is at least 0.5


@dataclass(frozen=True)
class CalibrationBin:
    """The detections with a predicted quality in [low, high), or [low, 1] in the last bin."""

    low: float
    high: float
    count: int
    predicted: float | None  #: mean predicted quality; None in an empty bin
    true: float | None  #: mean true quality


def rate(predictions: list[Prediction], annotations: Annotations) -> Ratings:
    """Measure the true qualities of detections."""
    truth = load_checked(predictions, annotations)
    objects = by_pair(a for a in truth.dataset["annotations"] if not a["iscrowd"])
    numbered = (record | {"number": i} for i, record in enumerate(predictions))
    true = {name: np.zeros(len(predictions)) for name in QUALITIES}
    of_object = np.zeros(len(predictions), dtype=bool)
    for pair, records in by_pair(numbered).items():
        if pair not in objects:
            continue
        both, crowds = (records, objects[pair]), [0] * len(objects[pair])
        codes, true_codes = ([code_of(r, truth.imgs[pair[0]]) for r in group] for group in both)
        boxes = [np.array([r["bbox"] for r in group], dtype=np.float64) for group in both]
        overlap, box_overlap = (coco_mask.iou(*s, crowds) for s in ((codes, true_codes), boxes))
        boundaries = [inner_boundary(code, width=1) for code in true_codes]
        for row, best in enumerate(overlap.argmax(axis=1)):
            if overlap[row, best] > 0:
                i, boundary = records[row]["number"], inner_boundary(codes[row], width=1)
                true["iou"][i] = overlap[row, best]
                true["boundary"][i] = _dice(boundary, boundaries[best])
                of_object[i] = box_overlap[row, best] >= 0.5
    fields = {name: f for name, f in QUALITIES.items() if predictions and f in predictions[0]}
    return Ratings(
        class_scores=np.array([r.get("class_score", r["score"]) for r in predictions], dtype=float),
        scores=np.array([r["score"] for r in predictions], dtype=float),
        predicted={
            n: np.array([r[f] for r in predictions], dtype=float) for n, f in fields.items()
        },
        true=true,
        of_object=of_object,
    )


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return (2 * common + EPSILON) / (len(one) + len(other) + EPSILON)


def calibration(predicted: np.ndarray, true: np.ndarray, *, bins: int = 10) -> list[CalibrationBin]:
    """Compute the mean true quality, N in [0, 1], by predicted quality in bins of equal width."""
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    result = []
    for i in range(bins):
        inside = places == i
        means = [float(v[inside].mean()) if inside.any() else None for v in (predicted, true)]
        result.append(CalibrationBin(i / bins, (i + 1) / bins, int(inside.sum()), *means))
    return result


def calibration_error(bins: Iterable[CalibrationBin]) -> float | None:
    """Compute the mean |predicted - true| of the bins, by count; None if all bins are empty."""
    gaps = {
        b: abs(b.predicted - b.true) for b in bins if b.predicted is not None and b.true is not None
    }
    total = sum(b.count for b in gaps)
    return sum(b.count * gap for b, gap in gaps.items()) / total if total else None


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Compute Spearman's correlation in [-1, 1]; None if it is undefined (constant, too few)."""
    from scipy.stats import spearmanr  # slow to import, and no worker needs it

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other).statistic)


def oracle_rankings(ratings: Ratings) -> dict[str, np.ndarray]:
    """Compute alternative scores of N detections by name.

    ``class`` is S_class alone, ``predicted`` the ranking score, ``true_<quality>`` Eq. 2 with that
    factor replaced by the truth, ``oracle`` Eq. 2 with all factors that the head predicts replaced.
    """
    factors, true = ratings.predicted, {name: ratings.true[name] for name in ratings.predicted}
    replaced = {f"true_{name}": {**factors, name: true[name]} for name in factors}
    rankings = {"class": ratings.class_scores, "predicted": ratings.scores}
    for name, qualities in {**replaced, "oracle": true}.items():
        rankings[name] = rescored(ratings.class_scores, qualities)
    return rankings


def rescored(class_scores: np.ndarray, qualities: Mapping[str, np.ndarray]) -> np.ndarray:
    """Multiply S_class by the geometric mean of the qualities, if there are any (Eq. 2)."""
    if not qualities:
        return class_scores
    product = np.prod(list(qualities.values()), axis=0)
    return class_scores * product ** (1 / len(qualities))


def ap_by_ranking(
    predictions: list[Prediction],
    annotations: Annotations,
    rankings: Mapping[str, np.ndarray],
    **options: Unpack[EvaluationOptions],
) -> dict[str, dict[str, float | None]]:
    """Compute mask and boundary AP, each by name, of the same detections under different scores."""
    truth = load_checked(predictions, annotations)
    result: dict[str, dict[str, float | None]] = {"AP": {}, "boundary_AP": {}}
    for name, scores in rankings.items():
        ranked = [p | {"score": s} for p, s in zip(predictions, scores.tolist(), strict=True)]
        evaluators = run_evaluators(truth, ranked, ["segm", "boundary"], **options)
        for kind, evaluator in evaluators.items():
            result[PREFIXES[kind] + "AP"][name] = percent(evaluator)
    return result
