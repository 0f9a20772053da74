"""BlendMask's detections and final instances of an image, one to one with the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reference.blendmask_inputs import Sample
from reference.blendmask_outputs import Arrays, Predictions
from reference.comparison import (
    Check,
    Comparison,
    dense,
    described,
    exact,
    failed,
    within,
    worst,
)
from reference.final_masks import read_masks
from reference.fixtures import Case
from reference.matching import BOX_TOLERANCE, SCORE_TOLERANCE, match

#: Relative, as for the maps they are computed from.
DENSE = 1e-4
#: Relative, of what is read off published arrays again.
ROUNDING = 1e-6

#: A candidate's least product of class probability and centerness.
THRESHOLD = 0.05

Index = NDArray[np.int64]

_MATCHED = ("boxes", "scores", "classes")


def detection_checks(case: Case, image: int, ours: Predictions, sample: Sample) -> dict[str, Check]:
    """The checks of an image's detections, instances and their masks."""
    found, final = ours.detections[image], ours.instances[image]
    rows = published_rows(case, f"det{image}", found)
    final_rows = published_rows(case, f"final{image}", final)
    checks: dict[str, Check] = {
        f"det{image}_boxes": within(found["boxes"][rows], BOX_TOLERANCE, "px"),
        f"det{image}_scores": ranked(found["scores"], rows),
        f"det{image}_classes": exact(found["classes"][rows]),
        f"det{image}_locations": exact(found["locations"][rows]),
        f"det{image}_levels": exact(found["levels"][rows]),
        f"det{image}_top_feat": dense(found["top_feat"][rows], DENSE),
        f"det{image}_masks56": dense(found["masks56"][rows], DENSE),
        f"det{image}_roi_bases_first8": dense(found["roi_bases"][rows[:8]], DENSE),
        f"final{image}_boxes": within(final["boxes"][final_rows], BOX_TOLERANCE, "px"),
        f"final{image}_scores": ranked(final["scores"], final_rows),
        f"final{image}_classes": exact(final["classes"][final_rows]),
    }
    shown = match(found | {"boxes": in_image(found["boxes"], sample)}, final)
    numbers = np.empty_like(rows)
    numbers[rows] = np.arange(len(rows))  # what the published numbering calls our detections
    index = numbers[shown][final_rows]
    checks[f"final{image}_det_index"] = exact(index)
    checks |= _mask_checks(case, image, ours, sample, index, final_rows)
    return checks | _summary_checks(case, image, ours)


def _summary_checks(case: Case, image: int, ours: Predictions) -> dict[str, Check]:
    found, final = ours.detections[image], ours.instances[image]
    levels = [int(name.removeprefix("logits_")) for name in ours.maps if name.startswith("logits_")]
    maps = {level: _published_maps(case, image, ours, level) for level in levels}
    checks = count_checks(case, image, found, final, maps)
    masks = case.like(f"det{image}_masks56", found["masks56"])
    checks["soft_mask_within_1e4_of_half"] = exact(int((np.abs(masks - 0.5) < 1e-4).sum()))
    return {f"detections_summary[{image}].{name}": check for name, check in checks.items()}


def count_checks(
    case: Case, image: int, found: Arrays, final: Arrays, maps: Mapping[int, tuple[Any, Any]]
) -> dict[str, Check]:
    """The summary of an image's detections, counted again in the published arrays.

    Those are compared themselves; a count among almost equal numbers would not be the same for
    ours, or as sharp.

    Args:
        found, final: our detections and instances.
        maps: published class logits (C×h×w) and centerness logits (1×h×w) of each level.
    """
    scores = case.like(f"det{image}_scores", found["scores"])
    classes = case.like(f"det{image}_classes", found["classes"])
    areas = case.like(f"final{image}_mask_area", final["masks"].sum((1, 2)))
    detected = case.like(f"det{image}_levels", found["levels"])
    products = [_product(*pair) for pair in maps.values()]
    checks: dict[str, Check] = {
        "n_det": exact(len(found["boxes"])),
        "n_final": exact(len(final["boxes"])),
        "candidates_per_level": exact([int((p > THRESHOLD).sum()) for p in products]),
        "closest_product_to_0_05": within(
            min(float(np.abs(p - THRESHOLD).min()) for p in products), 2e-8, ""
        ),
        "levels": exact({str(level): int((detected == level).sum()) for level in maps}),
        "n_classes": exact(len(np.unique(classes))),
        "empty_final_masks": exact(int((areas == 0).sum())),
        "score_max": dense(scores.max(), ROUNDING) if len(scores) else described,
        "score_min": dense(scores.min(), ROUNDING) if len(scores) else described,
        "min_score_gap": described,
    }
    if len(scores) > 1:
        checks["min_score_gap"] = dense(np.diff(np.sort(scores)).min(), ROUNDING)
    return checks


def published_rows(case: Case, prefix: str, ours: Arrays) -> Index:
    """Our row of each published one; where the numbers differ, ours as they are."""
    return match(ours, {name: case.like(f"{prefix}_{name}", ours[name]) for name in _MATCHED})


def ranked(ours: NDArray[Any], rows: Index) -> Check:
    """Each one's score, and that all are in the same descending order."""

    def check(name: str, published: Any) -> Comparison:
        orders = (ours[rows], ours)
        return worst(within(order, SCORE_TOLERANCE, "")(name, published) for order in orders)

    return check


def in_image(boxes: NDArray[Any], sample: Sample) -> NDArray[Any]:
    """Boxes of the resized image in pixels of the original one, clipped."""
    size = np.array(sample.original_size[::-1], np.float32)
    scale = size / np.array(sample.resized_size[::-1], np.float32)
    return np.clip(boxes * np.tile(scale, 2), 0, np.tile(size, 2))


def _mask_checks(
    case: Case, image: int, ours: Predictions, sample: Sample, index: Index, rows: Index
) -> dict[str, Check]:
    """Bitmaps end to end, published RoI masks pasted by us, and areas.

    Args:
        index: the published detection of each published instance.
        rows: our row of each published instance.
    """
    masks = ours.instances[image]["masks"][rows]
    rois = case.like(f"det{image}_masks56", ours.detections[image]["masks56"])
    stored = case.like(f"final{image}_det_index", index)
    names = [f"final_masks_rle[{image}]", f"final_masks_pasted[{image}]"]
    area = f"final{image}_mask_area"
    try:
        published = read_masks(
            case.facts["final_masks_rle"][image],
            rois[np.where((stored >= 0) & (stored < len(rois)), stored, index)],
            case.like(f"final{image}_boxes", ours.instances[image]["boxes"]),
            sample.original_size,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        why = f"no masks ({error})"
        unreadable: Check = lambda name, _: failed(name, why)  # noqa: E731
        return dict.fromkeys(names, unreadable) | {area: exact(masks.sum((1, 2)))}
    return {
        names[0]: lambda name, _: published.compare(name, masks),
        names[1]: lambda name, _: published.compare_pasted(name),
        area: exact(published.bitmaps.sum((1, 2))),
    }


def _published_maps(case: Case, image: int, ours: Predictions, level: int) -> tuple[Any, Any]:
    logits, centerness = (
        case.like(f"{name}_{level}", ours.maps[f"{name}_{level}"])[image]
        for name in ("logits", "ctr")
    )
    return logits, centerness


def _product(logits: Any, centerness: Any) -> NDArray[np.float32]:
    """Class probability times centerness, by which candidates are chosen; C×h×w."""
    product = torch.from_numpy(logits).sigmoid() * torch.from_numpy(centerness).sigmoid()
    return product.numpy()
