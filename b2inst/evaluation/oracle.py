"""AP under other rankings of the same detections: what a perfect scoring head would reach.

The IoUs do not change with the scores: the evaluator runs once and only the matching is repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster

from b2inst.evaluation.average_precision import load_pair, run_evaluator
from b2inst.evaluation.bootstrap import weighted_precision
from b2inst.evaluation.boundary_overlap import boundary_overlaps
from b2inst.evaluation.ground_truth import Annotations
from b2inst.evaluation.matches import match
from b2inst.evaluation.predictions import Prediction
from b2inst.evaluation.score_quality import Ratings

Rankings = Mapping[str, np.ndarray]


def oracle_rankings(ratings: Ratings) -> dict[str, np.ndarray]:
    """Scores of N detections by the name of the ranking.

    ``class`` is S_class alone, ``predicted`` the ranking score as it is, ``true_<quality>`` Eq. 2
    with that factor replaced by the truth, ``oracle`` with every factor that the head predicts: its
    ceiling. A head of one branch has its oracle under both names.
    """
    true = {name: ratings.true[name] for name in ratings.predicted}
    return {
        "class": ratings.class_scores,
        "predicted": ratings.scores,
        **{
            f"true_{name}": rescored(ratings.class_scores, {**ratings.predicted, name: true[name]})
            for name in ratings.predicted
        },
        "oracle": rescored(ratings.class_scores, true),
    }


def rescored(class_scores: np.ndarray, qualities: Mapping[str, np.ndarray]) -> np.ndarray:
    """S_class times the geometric mean of the qualities (Eq. 2); S_class alone without any."""
    if not qualities:
        return class_scores
    product = np.prod(list(qualities.values()), axis=0)
    return class_scores * product ** (1 / len(qualities))


def ap_by_ranking(
    predictions: list[Prediction],
    annotations: Annotations,
    rankings: Rankings,
    *,
    max_detections: int = 100,
    boundary_pixels: int | None = None,
) -> dict[str, dict[str, float | None]]:
    """Mask and boundary AP of the same detections under each ranking.

    Args:
        predictions: COCO results, at most ``max_detections`` an image, as models give them.
        annotations: COCO annotation file, or its content.
        rankings: N scores for each name.
        max_detections, boundary_pixels: as ``evaluate``.

    Returns:
        ``{"AP": {name: percent}, "boundary_AP": {…}}``; None where there is no ground truth.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    truth, chosen = load_pair(predictions, annotations)
    evaluator = run_evaluator(truth, chosen, kind="segm", max_detections=max_detections)
    boundaries = boundary_overlaps(evaluator, boundary_pixels=boundary_pixels)
    overlaps = {"AP": evaluator.ious, "boundary_AP": boundaries}
    once = np.ones((1, len(truth.imgs)), dtype=np.int32)
    result: dict[str, dict[str, float | None]] = {metric: {} for metric in overlaps}
    for name, scores in rankings.items():
        orders = _rank(evaluator, scores)
        for metric, own in overlaps.items():
            moved = {p: np.asarray(own[p])[o] if len(own[p]) else own[p] for p, o in orders.items()}
            value = weighted_precision(match(evaluator, overlaps=moved), once).mean()
            result[metric][name] = None if np.isnan(value) else float(100 * value)
            overlaps[metric] = moved
    return result


def _rank(evaluator: COCOeval_faster, scores: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Give the evaluator's detections new scores.

    Returns:
        By image and category, the places that its detections had in the ranking before.
    """
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for detection in evaluator.cocoDt.dataset["annotations"]:
        groups[detection["image_id"], detection["category_id"]].append(detection)
    orders = {}
    for pair, group in groups.items():
        before = sorted(group, key=lambda d: -d["score"])
        places = {detection["id"]: place for place, detection in enumerate(before)}
        for detection in group:
            detection["score"] = float(scores[detection["id"] - 1])
        after = sorted(group, key=lambda d: -d["score"])
        orders[pair] = np.array([places[detection["id"]] for detection in after])
    return orders
