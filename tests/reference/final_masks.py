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

from b2inst.ops.masks import box_windows, decode_rle, sample_rois
from reference.comparison import Comparison, failed

#: A pixel belongs to the mask where its probability is at least this.
THRESHOLD = 0.5

#: Soft masks this close to the threshold decide nothing: end to end, and for equal soft masks.
UNDECIDED = 1e-4
ROUNDING = 1e-6

#: Of one minus the IoU of a pair of masks.
TOLERANCE = 0.005


@dataclass
class PublishedMasks:
    """An image's published masks, and what we make of the published masks in their boxes.

    All are N×H×W bool.
    """

    bitmaps: NDArray[np.bool_]
    pasted: NDArray[np.bool_]  #: the published RoI masks, pasted into the published boxes
    undecided: NDArray[np.bool_]  #: where they are within ``UNDECIDED`` of the threshold
    rounding: NDArray[np.bool_]  #: where they are within ``ROUNDING``

    def compare(self, name: str, ours: NDArray[np.bool_]) -> Comparison:
        """One minus the smallest IoU over the decided pixels of each mask."""
        if ours.shape != self.bitmaps.shape:
            return failed(name, f"ours are {len(ours)} masks", self.bitmaps.shape)
        different = ours ^ self.bitmaps
        apart = different & ~self.undecided
        union = (ours | self.bitmaps) & ~self.undecided
        errors = np.count_nonzero(apart, (1, 2)) / np.maximum(np.count_nonzero(union, (1, 2)), 1)
        left_out = np.count_nonzero(different & self.undecided)
        return Comparison(
            name,
            self.bitmaps.shape,
            float(errors.max(initial=0)),
            TOLERANCE,
            "1 - IoU",
            f"{left_out} undecided pixels that differ left out" if left_out else "",
        )

    def compare_pasted(self, name: str) -> Comparison:
        """The published RoI masks, pasted and thresholded, are the published bitmaps."""
        different = int(np.count_nonzero((self.pasted ^ self.bitmaps) & ~self.rounding))
        note = "published RoI masks in published boxes"
        return Comparison(name, self.bitmaps.shape, different, 0, "different", note)


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
    if not isinstance(codes, list) or len(codes) != len(boxes):
        raise ValueError(f"not {len(boxes)} run-length codes")
    for code in codes:
        if not isinstance(code, dict) or code.get("size") != list(size):
            raise ValueError(f"a run-length code that is not of size {size[0]}×{size[1]}")
    bitmaps = decode_rle(codes, size).numpy()
    pasted, undecided, rounding = (np.zeros(bitmaps.shape, bool) for _ in range(3))
    for k, (roi, box) in enumerate(
        zip(torch.from_numpy(rois), torch.from_numpy(boxes), strict=True)
    ):
        if not (box.isfinite().all() and (box[2:] > box[:2]).all()):
            continue
        top, left, bottom, right = box_windows(box[None], size)[0].tolist()
        rows, columns = torch.arange(top, bottom)[None], torch.arange(left, right)[None]
        soft = sample_rois(roi[None], box[None], rows, columns)[0].numpy()
        inside = np.s_[k, top:bottom, left:right]
        pasted[inside] = soft >= THRESHOLD
        undecided[inside] = np.abs(soft - THRESHOLD) <= UNDECIDED
        rounding[inside] = np.abs(soft - THRESHOLD) <= ROUNDING
    return PublishedMasks(bitmaps, pasted, undecided, rounding)
