"""CondInst's detections and final instances of an image, one to one with the published ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.ops.frame_masks import pixel_centres, sample_grid
from b2inst.ops.masks import decode_rle
from b2inst.structures import FrameMasks
from reference.blendmask_detections import (
    DENSE,
    ROUNDING,
    Index,
    count_checks,
    in_image,
    published_rows,
    ranked,
)
from reference.blendmask_inputs import Sample
from reference.comparison import Check, Comparison, dense, exact, failed, within
from reference.condinst_outputs import Prediction
from reference.final_masks import TOLERANCE, UNDECIDED
from reference.fixtures import Case
from reference.matching import BOX_TOLERANCE, match

#: The last bit of 16-bit floats below 1.
HALF = 2**-11
#: Probabilities agree to about this, which decides how many of them lie near the threshold.
NOISE = 1e-6

SUMMARY_QUANTILES = (0, 0.25, 0.5, 0.75, 1)


def detection_checks(case: Case, image: int, ours: Prediction, sample: Sample) -> dict[str, Check]:
    """The checks of an image's detections, instances and their masks."""
    found, final = ours.detections, ours.instances
    rows = published_rows(case, f"det{image}", found)
    final_rows = published_rows(case, f"final{image}", final)
    shown = match(found | {"boxes": in_image(found["boxes"], sample)}, final)
    numbers = np.empty_like(rows)
    numbers[rows] = np.arange(len(rows))  # what the published numbering calls our detections
    index = numbers[shown][final_rows]
    checks: dict[str, Check] = {
        f"det{image}_boxes": within(found["boxes"][rows], BOX_TOLERANCE, "px"),
        f"det{image}_scores": ranked(found["scores"], rows),
        f"det{image}_classes": exact(found["classes"][rows]),
        f"det{image}_locations": exact(found["locations"][rows]),
        f"det{image}_levels": exact(found["levels"][rows]),
        f"det{image}_params": dense(found["params"][rows], DENSE),
        f"det{image}_first_rel_coords": dense(found["rel_coords"][rows[:2]], ROUNDING),
        f"det{image}_logits_stride8_first8": dense(found["logits_stride8"][rows[:8]], DENSE),
        f"det{image}_logits_stride4_first8": dense(found["logits_stride4"][rows[:8]], DENSE),
        f"final{image}_boxes": within(final["boxes"][final_rows], BOX_TOLERANCE, "px"),
        f"final{image}_scores": ranked(final["scores"], final_rows),
        f"final{image}_classes": exact(final["classes"][final_rows]),
        f"final{image}_det_index": exact(index),
    }
    soft = soft_masks(ours.masks[torch.from_numpy(rows)], sample)
    checks[f"det{image}_soft_full_first2_f16"] = within(soft[:2], HALF, "")
    checks |= _mask_checks(case, image, ours, sample, soft[index], final_rows)
    return checks | _summary_checks(case, image, ours, soft[index], rows)


def soft_masks(masks: FrameMasks, sample: Sample) -> NDArray[np.float32]:
    """Probabilities at the pixels of the original image, N×H×W."""
    rows, columns = (
        (pixel_centres(pixels, side) - masks.origin) / masks.stride
        for pixels, side in zip(sample.original_size, sample.resized_size, strict=True)
    )
    soft = np.empty((len(masks), *sample.original_size), np.float32)
    for canvas, grid in zip(soft, masks.probabilities, strict=True):
        canvas[:] = sample_grid(grid, rows, columns).numpy()
    return soft


def _mask_checks(
    case: Case,
    image: int,
    ours: Prediction,
    sample: Sample,
    soft: NDArray[np.float32],
    rows: Index,
) -> dict[str, Check]:
    """Bitmaps end to end, published logits made bitmaps by us, and areas.

    Args:
        soft: our probabilities of each published instance.
        rows: our row of each published instance.
    """
    masks = ours.instances["masks"][rows]
    names = [f"final_masks_rle[{image}]", f"final_masks_of_logits[{image}]"]
    area = f"final{image}_mask_area"
    try:
        bitmaps = decode_rle(case.facts["final_masks_rle"][image], sample.original_size).numpy()
        if bitmaps.shape != masks.shape:
            raise ValueError(f"{bitmaps.shape}, ours are {masks.shape}")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        why = f"no masks ({error})"
        unreadable: Check = lambda name, _: failed(name, why)  # noqa: E731
        return dict.fromkeys(names, unreadable) | {area: exact(masks.sum((1, 2)))}
    return {
        names[0]: lambda name, _: _overlap(name, masks, bitmaps, soft),
        names[1]: lambda name, _: _from_logits(name, case, image, ours, sample, bitmaps),
        area: exact(bitmaps.sum((1, 2))),
    }


def _overlap(
    name: str, ours: NDArray[np.bool_], published: NDArray[np.bool_], soft: NDArray[np.float32]
) -> Comparison:
    """One minus the smallest IoU over the decided pixels of each mask."""
    decided = np.abs(soft - 0.5) > UNDECIDED
    different = ours ^ published
    union = np.count_nonzero((ours | published) & decided, (1, 2))
    errors = np.count_nonzero(different & decided, (1, 2)) / np.maximum(union, 1)
    left_out = int(np.count_nonzero(different & ~decided))
    note = f"{left_out} undecided pixels that differ left out" if left_out else ""
    error = float(errors.max(initial=0))
    return Comparison(name, published.shape, error, TOLERANCE, "1 - IoU", note)


def _from_logits(
    name: str,
    case: Case,
    image: int,
    ours: Prediction,
    sample: Sample,
    published: NDArray[np.bool_],
) -> Comparison:
    """The published logits of the first detections are the published bitmaps."""
    own = ours.detections["logits_stride4"][:8]
    logits = torch.from_numpy(case.like(f"det{image}_logits_stride4_first8", own))
    index = case.like(f"final{image}_det_index", np.arange(len(published)))
    shown = np.flatnonzero((index >= 0) & (index < len(logits)))
    first = ours.masks[: len(shown)]
    masks = replace(first, probabilities=logits.sigmoid()[index[shown]])
    soft = soft_masks(masks, sample)
    different = ((soft > 0.5) ^ published[shown]) & (np.abs(soft - 0.5) > ROUNDING)
    note = "published logits of the first detections"
    return Comparison(
        name, published[shown].shape, int(np.count_nonzero(different)), 0, "different", note
    )


def _summary_checks(
    case: Case, image: int, ours: Prediction, soft: NDArray[np.float32], rows: Index
) -> dict[str, Check]:
    levels = [int(name.removeprefix("logits_")) for name in ours.maps if name.startswith("logits_")]
    maps = {level: _published_maps(case, image, ours, level) for level in levels}
    final = ours.instances
    checks = count_checks(case, image, ours.detections, final, maps)
    areas = case.like(f"final{image}_mask_area", final["masks"].sum((1, 2)))
    fractions = areas / np.prod(final["masks"].shape[1:])
    logits = ours.detections["logits_stride4"]
    checks |= {
        "mask_area_fraction_quantiles": dense(np.quantile(fractions, SUMMARY_QUANTILES), ROUNDING),
        "mask_logit_std": dense(logits.std(ddof=1), DENSE),
        "mask_logit_absmax": dense(np.abs(logits).max(), DENSE),
    }
    for distance in ("1e-05", "0.0001", "0.001"):
        near = int(np.count_nonzero(np.abs(soft - 0.5) < float(distance)))
        checks[f"full_mask_pixels_near_half.{distance}"] = dense(near, NOISE / float(distance))
    return {f"detections_summary[{image}].{name}": check for name, check in checks.items()}


def _published_maps(case: Case, image: int, ours: Prediction, level: int) -> tuple[Any, Any]:
    logits, centerness = (
        case.like(f"im{image}_{name}_{level}", ours.maps[f"{name}_{level}"])[0]
        for name in ("logits", "ctr")
    )
    return logits, centerness
