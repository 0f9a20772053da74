"""Published masks of whole images against ours, apart from pixels that rounding decides.

A RoI that reaches beyond the bases is sampled as zero there, and the mask is exactly 0.5: the
threshold. Which side such a pixel falls on depends on the last bit of an interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.ops.masks import box_window, decode_rle, paste_window
from b2inst.verification.comparison import Comparison, failed

#: Soft masks this close to the threshold decide nothing: end to end, and for equal soft masks.
UNDECIDED = 1e-4
ROUNDING = 1e-6

#: Of one minus the IoU of a pair of masks.
TOLERANCE = 0.005


@dataclass
class PublishedMasks:
    """An image's published masks as bitmaps and as what they were pasted from."""

    bitmaps: NDArray[np.bool_]  #: N×H×W
    soft: NDArray[np.float32]  #: N×H×W, the published RoI masks pasted by us into published boxes

    def compare(self, name: str, ours: NDArray[np.bool_]) -> Comparison:
        """One minus the smallest IoU over the decided pixels of each mask."""
        if ours.shape != self.bitmaps.shape:
            return failed(name, f"ours are {len(ours)} masks", self.bitmaps.shape)
        decided = np.abs(self.soft - 0.5) > UNDECIDED
        different = ours != self.bitmaps
        union = ((ours | self.bitmaps) & decided).sum((1, 2))
        apart = (different & decided).sum((1, 2)) / np.maximum(union, 1)
        left_out = int((different & ~decided).sum())
        return Comparison(
            name,
            self.bitmaps.shape,
            float(apart.max(initial=0)),
            TOLERANCE,
            "1 - IoU",
            f"{left_out} undecided pixels that differ left out" if left_out else "",
        )

    def compare_pasted(self, name: str) -> Comparison:
        """The published RoI masks, pasted and thresholded, are the published bitmaps."""
        decided = np.abs(self.soft - 0.5) > ROUNDING
        different = ((self.soft >= 0.5) != self.bitmaps) & decided
        return Comparison(
            name, self.bitmaps.shape, int(different.sum()), 0, "different", "of published RoIs"
        )


def read_masks(
    codes: Any, rois: NDArray[np.float32], boxes: NDArray[np.float32], size: tuple[int, int]
) -> PublishedMasks:
    """Decode and paste an image's masks.

    Args:
        codes: N compressed run-length codes.
        rois: N×R×R, masks in their boxes.
        boxes: N×4, in pixels of the image of ``size`` (height, width).

    Raises:
        ValueError: not N codes of this size.
    """
    if not isinstance(codes, list) or len(codes) != len(boxes) or len(rois) != len(boxes):
        raise ValueError(f"not {len(boxes)} run-length codes")
    for code in codes:
        if not isinstance(code, dict) or list(code.get("size", ())) != list(size):
            raise ValueError(f"a run-length code that is not of size {size[0]}×{size[1]}")
    bitmaps = decode_rle(codes, size).numpy()
    soft = np.zeros(bitmaps.shape, np.float32)
    for canvas, roi, box in zip(soft, torch.from_numpy(rois), torch.from_numpy(boxes), strict=True):
        if torch.isfinite(box).all() and bool((box[2:] > box[:2]).all()):
            top, left, bottom, right = window = box_window(box, size)
            if bottom > top and right > left:
                canvas[top:bottom, left:right] = paste_window(roi, box, window).numpy()
    return PublishedMasks(bitmaps, soft)
