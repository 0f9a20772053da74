"""Mask, boundary and box AP by COCO's protocol.

The evaluator is faster-coco-eval, which equals pycocotools. Three conventions are made explicit:

- Masks are ranked by ``score`` (paper Eq. 2), boxes by ``class_score``: box AP is the detector's,
  which mask scoring does not change.
- Small, medium and large go by the annotation's ``area`` for ground truth. For predictions they go
  by the mask's pixels in mask and boundary AP, by the box in box AP. COCO does the same.
- Boundary AP (Cheng et al. 2021) matches by the smaller of mask IoU and boundary IoU, where the
  boundary is the part of a mask within 2 % of the image diagonal from its contour. The boundaries
  are ours (``boundary_overlap``): the evaluator's are one pixel narrower at some image sizes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal

from faster_coco_eval import COCO, COCOeval_faster

from b2inst.evaluation.boundary_overlap import boundary_overlaps
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth, numbered, restrict
from b2inst.evaluation.matches import Overlaps
from b2inst.evaluation.predictions import Prediction, check_against

#: What is matched: masks, their boundaries, or boxes.
Kind = Literal["segm", "boundary", "bbox"]

#: AP in percent by name; None where there is no ground truth to measure it on.
Metrics = dict[str, float | None]

#: "small", "medium", "large" → (lowest, highest) area in pixels².
AreaRanges = Mapping[str, tuple[float, float]]

COCO_AREAS: AreaRanges = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}

#: What the metric names of each kind begin with.
PREFIXES: dict[Kind, str] = {"segm": "", "boundary": "boundary_", "bbox": "box_"}

_STATS = {
    "AP": "AP_all",
    "AP50": "AP_50",
    "AP75": "AP_75",
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
}


def evaluate(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    boundary_dilation: float = 0.02,
    area_ranges: AreaRanges | None = None,
    image_ids: Collection[int] | None = None,
) -> Metrics:
    """Mask, boundary and box AP in percent.

    Args:
        predictions: COCO results; the 100 best of each image and category count.
        annotations: COCO annotation file, or its content.
        boundary_dilation: width of the boundary as a fraction of the image diagonal.
        area_ranges: bounds in pixels² of "small", "medium" and "large" (default: COCO's).
        image_ids: evaluate on these images of the file only (default: all); predictions for its
            other images do not count.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` of masks, then the same six with the
        prefix ``boundary_`` and with ``box_``. None where there is no ground truth, as in an empty
        size range.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    truth, chosen = load_pair(predictions, annotations, image_ids=image_ids)
    run = partial(run_evaluator, truth, chosen, area_ranges=area_ranges)
    masks = run(kind="segm")
    overlaps = boundary_overlaps(masks, boundary_dilation=boundary_dilation)
    boundaries = run(kind="segm", overlaps=overlaps)
    evaluators = {"segm": masks, "boundary": boundaries, "bbox": run(kind="bbox")}
    metrics: Metrics = {}
    for kind, prefix in PREFIXES.items():
        stats = evaluators[kind].stats_as_dict
        metrics |= {
            prefix + name: None if stats[key] < 0 else 100 * stats[key]
            for name, key in _STATS.items()
        }
    return metrics


def load_pair(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    image_ids: Collection[int] | None = None,
) -> tuple[COCO, list[Prediction]]:
    """Ground truth and the predictions for it, checked against each other (see ``evaluate``)."""
    truth = load_ground_truth(annotations)
    check_against(predictions, truth)
    if image_ids is None:
        return truth, predictions
    truth = restrict(truth, image_ids)
    return truth, [record for record in predictions if record["image_id"] in truth.imgs]


def run_evaluator(
    truth: COCO,
    predictions: list[Prediction],
    *,
    kind: Literal["segm", "bbox"],
    area_ranges: AreaRanges | None = None,
    overlaps: Overlaps | None = None,
) -> COCOeval_faster:
    """Run the evaluator on checked input; its ``ious`` and ``stats_as_dict`` are then filled.

    Inside it images, categories and annotations are numbered from 1 (see ``numbered``).

    Args:
        truth, predictions: of ``load_pair``.
        kind: what is matched.
        area_ranges: as ``evaluate``.
        overlaps: matched by these instead of the IoUs; keys as in the evaluator's ``ious``.

    Raises:
        EvaluationError: ``area_ranges`` does not name small, medium and large.
    """
    ranges = {name: list(bounds) for name, bounds in (area_ranges or COCO_AREAS).items()}
    if list(ranges) != list(COCO_AREAS):
        raise EvaluationError(
            f"area_ranges has {', '.join(ranges)}; give small, medium and large, in this order"
        )
    truth, results = numbered(truth, [_result(record, kind) for record in predictions])
    evaluator = COCOeval_faster(
        truth, truth.loadRes(results), iouType=kind, ranges=ranges, print_function=_silent
    )
    if overlaps is not None:  # the evaluator asks for each pair of an image and a category
        evaluator.computeIoU = lambda *pair: overlaps[pair]
    evaluator.run()
    return evaluator


def _result(record: Prediction, kind: Literal["segm", "bbox"]) -> dict[str, Any]:
    """What the evaluator is to see of a detection: with a box, areas would be the box's."""
    common = {"image_id": record["image_id"], "category_id": record["category_id"]}
    if kind == "bbox":
        score = record.get("class_score", record["score"])
        return common | {"bbox": record["bbox"], "score": score}
    return common | {"segmentation": record["segmentation"], "score": record["score"]}


def _silent(*_: object) -> None:
    pass
