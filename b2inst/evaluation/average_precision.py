"""Mask, boundary and box AP by COCO's protocol, computed by faster-coco-eval."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from b2inst.evaluation.ground_truth import (
    Annotations,
    boundary_width,
    by_pair,
    code_of,
    count_common,
    inner_boundary,
    load_ground_truth,
    touching_and_isolated,
)
from b2inst.evaluation.predictions import (
    EvaluationError,
    Prediction,
    check_against,
    ranked_by_class,
)

#: What is matched: masks, their boundaries, or boxes.
Kind = Literal["segm", "boundary", "bbox"]

#: AP in percent by name; None if there is no ground truth for it.
Metrics = dict[str, float | None]

#: "small", "medium", "large" → (lowest, highest) area in pixels².
AreaRanges = Mapping[str, tuple[float, float]]
COCO_AREAS: AreaRanges = {"small": (0, 1024), "medium": (1024, 9216), "large": (9216, 1e10)}

#: Boundary IoUs by the ids of detection and annotation, in the order of the predictions from 1.
BoundaryIoUs = dict[tuple[int, int], float]

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
    """Compute mask, boundary and box AP in percent; warns of images with too many objects.

    Args:
        predictions: COCO results.
        annotations: COCO annotation file, or its content.
        groups: Whether to evaluate touching and isolated objects too, each without the others.
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
    known: BoundaryIoUs = {}
    for group, part in {"": truth, **(touching_and_isolated(truth) if groups else {})}.items():
        kinds = [kind for kind in PREFIXES if not group or kind != "bbox"]
        evaluators = run_evaluators(part, predictions, kinds, known=known, **options)
        metrics |= {group + name: value for name, value in read_metrics(evaluators).items()}
    return metrics


def read_metrics(evaluators: Mapping[Kind, COCOeval_faster]) -> Metrics:
    """Return the metrics of evaluators after their run, by the names of :func:`evaluate`."""
    return {
        PREFIXES[kind] + name: percent(evaluator, key)
        for kind, evaluator in evaluators.items()
        for name, key in _STATS.items()
    }


def percent(evaluator: COCOeval_faster, key: str = "AP_all") -> float | None:
    """Return an evaluator's result in percent; None without ground truth."""
    value = float(evaluator.stats_as_dict[key])
    return None if value < 0 else 100 * value


def load_checked(predictions: list[Prediction], annotations: Annotations) -> COCO:
    """Load ground truth and check predictions against it."""
    if isinstance(predictions, Iterator):  # nothing would be left after the check
        raise EvaluationError("predictions: can be read only once; give a list")
    truth = load_ground_truth(annotations)
    check_against(predictions, truth)
    return truth


def warn_of_limit(truth: COCO, *, max_detections: int) -> None:
    """Warn if an image has more objects of a category than ``max_detections``."""
    objects = Counter(
        (a["image_id"], a["category_id"]) for a in truth.dataset["annotations"] if not a["iscrowd"]
    )
    dense = len({image_id for (image_id, _), n in objects.items() if n > max_detections})
    if dense:
        warnings.warn(
            f"{dense} of {len(truth.imgs)} images ({dense / len(truth.imgs):.1%}) have more than "
            f"{max_detections} objects of a category: not all can be found; raise max_detections "
            "(--max-detections; of train, --option max_detections=N)",
            stacklevel=3,
        )


def run_evaluators(
    truth: COCO,
    predictions: list[Prediction],
    kinds: Collection[Kind],
    *,
    known: BoundaryIoUs | None = None,
    **options: Unpack[EvaluationOptions],
) -> dict[Kind, COCOeval_faster]:
    """Run the evaluators of some kinds, in which images and categories are numbered from 1.

    Masks are ranked by ``score``, boxes by ``class_score``: mask scoring does not change them.
    Boundary IoUs that are not ``known`` are added to it, for calls with the same masks in the same
    order and boundaries of the same width: scores and groups do not change them.
    """
    for name in ("max_detections", "boundary_pixels"):
        given: Any = options.get(name)
        if given is not None and given < 1:
            raise EvaluationError(f"{name} is {given}; give at least 1")
    areas = options.get("area_ranges") or COCO_AREAS
    # The evaluator stores ids as floating-point numbers.
    images, categories = (
        {key: number for number, key in enumerate(sorted(entries), start=1)}
        for entries in (truth.imgs, truth.cats)
    )

    def ids(record: dict[str, Any]) -> dict[str, int]:
        image, category = images[record["image_id"]], categories[record["category_id"]]
        return {"image_id": image, "category_id": category}

    numbered = COCO(
        {
            "images": [image | {"id": images[i]} for i, image in truth.imgs.items()],
            "annotations": [a | ids(a) for a in truth.dataset["annotations"]],
            "categories": [category | {"id": categories[i]} for i, category in truth.cats.items()],
        }
    )

    def run(kind: Kind, results: list[dict[str, Any]]) -> COCOeval_faster:
        evaluator = COCOeval_faster(
            numbered,
            numbered.loadRes(results),
            iouType=kind,
            ranges={name: list(bounds) for name, bounds in areas.items()},
            print_function=lambda *_: None,
        )
        evaluator.params.maxDets = [options.get("max_detections", 100)]
        evaluator.run()
        return evaluator

    found: dict[Kind, COCOeval_faster] = {}
    if {"segm", "boundary"} & set(kinds):  # without boxes, from which areas would be taken
        names = ("segmentation", "score")
        found["segm"] = run("segm", [ids(p) | {n: p[n] for n in names} for p in predictions])
    if "bbox" in kinds:
        boxes = ranked_by_class(predictions)
        found["bbox"] = run("bbox", [ids(p) | {n: p[n] for n in ("bbox", "score")} for p in boxes])
    if "boundary" in kinds:
        overlaps = boundary_overlaps(found["segm"], options.get("boundary_pixels"), known)
        found["boundary"] = copy.copy(found["segm"])
        found["boundary"].computeIoU = lambda *pair: overlaps[pair]
        found["boundary"].run()
    return {kind: found[kind] for kind in kinds}


def boundary_overlaps(
    masks: COCOeval_faster, pixels: int | None = None, known: BoundaryIoUs | None = None
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Compute the overlaps that boundary AP is based on from the evaluator of masks, after its run.

    Detections (in descending order of score) × annotations by image and category: the mask IoU, or
    for objects from a mask IoU of 0.5 on the boundary IoU (Cheng et al. 2021), if that is smaller.
    The evaluator's own boundaries are one pixel narrower at some image sizes.
    """
    detections, annotations = (
        by_pair(coco.dataset["annotations"]) for coco in (masks.cocoDt, masks.cocoGt)
    )
    known = {} if known is None else known
    overlaps = {pair: np.array(found) for pair, found in masks.ious.items()}
    for pair, overlap in overlaps.items():
        if not overlap.size:
            continue
        image, objects = masks.cocoGt.imgs[pair[0]], annotations[pair]
        ranked = sorted(detections[pair], key=lambda d: -d["score"])
        width = boundary_width(image["height"], image["width"], pixels=pixels)
        near = (overlap >= 0.5) & [not a["iscrowd"] for a in objects]
        places = {
            (ranked[row]["id"], objects[column]["id"]): (row, column)
            for row, column in np.argwhere(near).tolist()
        }
        new = {key: place for key, place in places.items() if key not in known}
        found, true = (  # extracting boundaries is the most expensive step of the evaluation
            {
                i: inner_boundary(code_of(records[i], image), width=width)
                for i in {place[side] for place in new.values()}
            }
            for side, records in enumerate((ranked, objects))
        )
        for key, (row, column) in new.items():
            common = count_common(found[row], true[column])
            known[key] = common / (found[row][1].sum() + true[column][1].sum() - common)
        for key, place in places.items():
            overlap[place] = min(overlap[place], known[key])
    return overlaps
