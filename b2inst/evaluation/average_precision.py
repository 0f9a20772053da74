"""Mask, boundary and box AP by COCO's protocol, computed by faster-coco-eval.

Masks are ranked by ``score`` (paper Eq. 2), boxes by ``class_score``, since mask scoring does not
change the detector. Boundary AP (Cheng et al. 2021) matches by the smaller of mask IoU and boundary
IoU, with our boundaries: the evaluator's are one pixel narrower at some image sizes.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypedDict, Unpack

from faster_coco_eval import COCO, COCOeval_faster

from b2inst.evaluation.boundary_overlap import boundary_overlaps
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth, touching_and_isolated
from b2inst.evaluation.predictions import EvaluationError, Prediction, check_against

#: What is matched: masks, their boundaries, or boxes.
Kind = Literal["segm", "boundary", "bbox"]

#: AP in percent by name; None if there is no ground truth for it.
Metrics = dict[str, float | None]

#: "small", "medium", "large" → (lowest, highest) area in pixels².
AreaRanges = Mapping[str, tuple[float, float]]
COCO_AREAS: AreaRanges = {"small": (0, 1024), "medium": (1024, 9216), "large": (9216, 1e10)}

#: Prefix of the metric names of each kind.
PREFIXES: dict[Kind, str] = {"segm": "", "boundary": "boundary_", "bbox": "box_"}

AREAS = {"APs": "small", "APm": "medium", "APl": "large"}
_STATS = {"AP": "AP_all", "AP50": "AP_50", "AP75": "AP_75"}
_STATS |= {name: f"AP_{area}" for name, area in AREAS.items()}


class EvaluationOptions(TypedDict, total=False):
    """Options of :func:`evaluate` and :func:`~b2inst.evaluation.bootstrap.resample_ap`."""

    max_detections: int  #: detections per image and category, best first (default: 100)
    boundary_pixels: int | None  #: width of boundaries (default: 2 % of the image diagonal)
    area_ranges: AreaRanges | None  #: areas of "small", "medium" and "large" (default: COCO's)


def evaluate(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    groups: bool = False,
    **options: Unpack[EvaluationOptions],
) -> Metrics:
    """Compute mask, boundary and box AP in percent.

    Warns if an image has more objects of a category than ``max_detections``.

    Args:
        predictions: COCO results.
        annotations: COCO annotation file, or its content.
        groups: Whether to evaluate also on the objects that touch another object and on those
            that do not; the other objects are then ignored like crowds.
        **options: See :class:`EvaluationOptions`.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` of masks, then the same six with the
        prefixes ``boundary_`` and ``box_``. With ``groups`` also those of masks and boundaries with
        the prefixes ``touching_`` and ``isolated_``. None without ground truth.

    Raises:
        EvaluationError: Predictions or annotations are invalid or do not belong together.
    """
    truth = load_checked(predictions, annotations)
    warn_of_limit(truth, max_detections=options.get("max_detections", 100))
    metrics: Metrics = {}
    for group, part in {"": truth, **(touching_and_isolated(truth) if groups else {})}.items():
        kinds = [kind for kind in PREFIXES if not group or kind != "bbox"]
        for kind, evaluator in run_evaluators(part, predictions, kinds, **options).items():
            for name, key in _STATS.items():
                metrics[group + PREFIXES[kind] + name] = percent(evaluator, key)
    return metrics


def percent(evaluator: COCOeval_faster, key: str = "AP_all") -> float | None:
    """Return an evaluator's result in percent; None without ground truth."""
    value = float(evaluator.stats_as_dict[key])
    return None if value < 0 else 100 * value


def load_checked(predictions: list[Prediction], annotations: Annotations) -> COCO:
    """Load ground truth and check predictions against it."""
    truth = load_ground_truth(annotations)
    check_against(predictions, truth)
    return truth


def warn_of_limit(truth: COCO, *, max_detections: int) -> None:
    """Warn if an image has more objects of a category than ``max_detections``."""
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


def run_evaluators(
    truth: COCO,
    predictions: list[Prediction],
    kinds: Collection[Kind],
    *,
    max_detections: int = 100,
    boundary_pixels: int | None = None,
    area_ranges: AreaRanges | None = None,
) -> dict[Kind, COCOeval_faster]:
    """Run the evaluators of some kinds, in which images and categories are numbered from 1."""
    if max_detections < 1:
        raise EvaluationError(f"max_detections is {max_detections}; give at least 1")
    ranges = {name: list(bounds) for name, bounds in (area_ranges or COCO_AREAS).items()}
    numbered, results = _numbered(truth, predictions)
    found: dict[Kind, COCOeval_faster] = {}
    for kind in ("segm", "bbox"):
        if kind in kinds or (kind == "segm" and "boundary" in kinds):
            found[kind] = evaluator = COCOeval_faster(
                numbered,
                numbered.loadRes(results[kind]),
                iouType=kind,
                ranges=ranges,
                print_function=lambda *_: None,
            )
            evaluator.params.maxDets = [max_detections]  # AP is taken at the last
            evaluator.run()
    if "boundary" in kinds:
        overlaps = boundary_overlaps(found["segm"], boundary_pixels=boundary_pixels)
        found["boundary"] = copy.copy(found["segm"])
        found["boundary"].computeIoU = lambda *pair: overlaps[pair]
        found["boundary"].run()
    return {kind: found[kind] for kind in kinds}


def _numbered(
    truth: COCO, predictions: list[Prediction]
) -> tuple[COCO, dict[str, list[dict[str, Any]]]]:
    """Number images and categories from 1, in ground truth and results of each IoU type.

    The evaluator stores ids as floating-point numbers. Results for masks have no box, since areas
    would be taken from it.
    """
    images, categories = (
        {key: number for number, key in enumerate(sorted(known), start=1)}
        for known in (truth.imgs, truth.cats)
    )

    def ids(record: dict[str, Any]) -> dict[str, int]:
        image, category = images[record["image_id"]], categories[record["category_id"]]
        return {"image_id": image, "category_id": category}

    numbered = COCO(
        {
            "images": [image | {"id": images[i]} for i, image in truth.imgs.items()],
            "annotations": [found | ids(found) for found in truth.dataset["annotations"]],
            "categories": [category | {"id": categories[i]} for i, category in truth.cats.items()],
        }
    )
    masks, boxes = [], []
    for p in predictions:
        masks.append({**ids(p), "segmentation": p["segmentation"], "score": p["score"]})
        boxes.append({**ids(p), "bbox": p["bbox"], "score": p.get("class_score", p["score"])})
    return numbered, {"segm": masks, "bbox": boxes}
