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

import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal

from faster_coco_eval import COCO, COCOeval_faster

from b2inst.evaluation.boundary_overlap import boundary_overlaps
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth, numbered, restrict
from b2inst.evaluation.matches import Overlaps
from b2inst.evaluation.predictions import Prediction, check_against
from b2inst.evaluation.touching import touching_and_isolated

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
    max_detections: int = 100,
    boundary_dilation: float = 0.02,
    boundary_pixels: int | None = None,
    area_ranges: AreaRanges | None = None,
    image_ids: Collection[int] | None = None,
    groups: bool = False,
) -> Metrics:
    """Mask, boundary and box AP in percent.

    Warns where an image has more objects of a category than ``max_detections``.

    Args:
        predictions: COCO results.
        annotations: COCO annotation file, or its content.
        max_detections: so many of the best of each image and category count.
        boundary_dilation: width of the boundary as a fraction of the image diagonal.
        boundary_pixels: width of the boundary in pixels instead.
        area_ranges: bounds in pixels² of "small", "medium" and "large" (default: COCO's).
        image_ids: evaluate on these images of the file only (default: all); predictions for its
            other images do not count.
        groups: evaluate also on the objects that touch another one and on those that do not
            (:func:`~b2inst.evaluation.touching.touching`), the others ignored as crowds are.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` of masks, then the same six with the
        prefix ``boundary_`` and with ``box_``; with ``groups`` also those of masks and boundaries
        after ``touching_`` and after ``isolated_``. None where there is no ground truth, as in an
        empty size range.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    truth, chosen = load_pair(predictions, annotations, image_ids=image_ids)
    warn_of_limit(truth, max_detections=max_detections)
    metrics: Metrics = {}
    for group, part in {"": truth, **(touching_and_isolated(truth) if groups else {})}.items():
        run = partial(
            run_evaluator, part, chosen, max_detections=max_detections, area_ranges=area_ranges
        )
        masks = run(kind="segm")
        overlaps = boundary_overlaps(
            masks, boundary_dilation=boundary_dilation, boundary_pixels=boundary_pixels
        )
        evaluators: dict[Kind, COCOeval_faster] = {
            "segm": masks,
            "boundary": run(kind="segm", overlaps=overlaps),
        }
        if not group:
            evaluators["bbox"] = run(kind="bbox")
        for kind, evaluator in evaluators.items():
            stats = evaluator.stats_as_dict
            metrics |= {
                group + PREFIXES[kind] + name: None if stats[key] < 0 else 100 * stats[key]
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


def warn_of_limit(truth: COCO, *, max_detections: int) -> None:
    """Warn where an image has more objects of a category than detections that count."""
    objects = Counter(
        (found["image_id"], found["category_id"])
        for found in truth.dataset["annotations"]
        if not found["iscrowd"]
    )
    dense = len({image_id for (image_id, _), n in objects.items() if n > max_detections})
    if dense:
        warnings.warn(
            f"{dense} of {len(truth.imgs)} images ({dense / len(truth.imgs):.1%}) have more than "
            f"{max_detections} objects of a category: not all can be found; raise max_detections "
            "(--max-detections)",
            stacklevel=3,
        )


def run_evaluator(
    truth: COCO,
    predictions: list[Prediction],
    *,
    kind: Literal["segm", "bbox"],
    max_detections: int = 100,
    area_ranges: AreaRanges | None = None,
    overlaps: Overlaps | None = None,
) -> COCOeval_faster:
    """Run the evaluator on checked input; its ``ious`` and ``stats_as_dict`` are then filled.

    Inside it images, categories and annotations are numbered from 1 (see ``numbered``).

    Args:
        truth, predictions: of ``load_pair``.
        kind: what is matched.
        max_detections, area_ranges: as ``evaluate``.
        overlaps: matched by these instead of the IoUs; keys as in the evaluator's ``ious``.

    Raises:
        EvaluationError: ``area_ranges`` does not name small, medium and large, or
            ``max_detections`` is below 1.
    """
    if max_detections < 1:
        raise EvaluationError(f"max_detections is {max_detections}; give at least 1")
    ranges = {name: list(bounds) for name, bounds in (area_ranges or COCO_AREAS).items()}
    if list(ranges) != list(COCO_AREAS):
        raise EvaluationError(
            f"area_ranges has {', '.join(ranges)}; give small, medium and large, in this order"
        )
    truth, results = numbered(truth, [_result(record, kind) for record in predictions])
    evaluator = COCOeval_faster(
        truth, truth.loadRes(results), iouType=kind, ranges=ranges, print_function=_silent
    )
    evaluator.params.maxDets = [max_detections]  # AP is taken at the last, recall at each
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
