"""Non-maximum suppression in one step over a matrix of overlaps (YOLACT §4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

_PAIRS = 2**22  # of boxes whose overlaps are computed at a time


def fast_nms(
    boxes: Tensor, scores: Tensor, *, iou: float = 0.5, top: int | None = None, most: int = 100
) -> tuple[Tensor, Tensor]:
    """Suppress, class by class, each box that overlaps a higher scored one.

    Unlike in ordinary suppression, a box that is suppressed itself suppresses others too. A box
    may remain for several classes, and scores may be as low as they are.

    Args:
        boxes: N×4 x1 y1 x2 y2.
        scores: N×C.
        iou: the overlap up to which a box remains.
        top: candidates of a class, its highest scored boxes (default: 200, as published, and ten
            more for each that may remain beyond 100: dense objects of one class share them).
        most: that remain in the end, of all classes together.

    Returns:
        Rows of ``boxes`` and classes, M int64 each, in descending order of their scores.
    """
    ranked, rows = scores.T.sort(dim=1, descending=True, stable=True)
    top = _candidates(most) if top is None else top
    ranked, rows = ranked[:, :top], rows[:, :top]
    classes, places = _unsuppressed(boxes[rows], iou).nonzero(as_tuple=True)
    order = ranked[classes, places].argsort(descending=True, stable=True)[:most]
    classes, places = classes[order], places[order]
    return rows[classes, places], classes


def cross_class_fast_nms(
    boxes: Tensor, scores: Tensor, *, iou: float = 0.5, top: int | None = None, most: int = 100
) -> tuple[Tensor, Tensor]:
    """The faster variant: each box counts for its best class, and all classes suppress each other.

    Args, returns: as in ``fast_nms``, but that all candidates may remain.
    """
    best, classes = scores.max(dim=1)
    rows = best.argsort(descending=True, stable=True)[: _candidates(most) if top is None else top]
    rows = rows[_unsuppressed(boxes[rows], iou)]
    return rows, classes[rows]


def _candidates(most: int) -> int:
    return 200 + 10 * max(most - 100, 0)


def _unsuppressed(boxes: Tensor, iou: float) -> Tensor:
    """…×N×4 in descending order of scores to …×N bool."""
    kept = torch.zeros(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    step = max(_PAIRS // max(kept.numel(), 1), 1)
    for start in range(0, kept.shape[-1], step):
        those = slice(start, start + step)
        overlaps = box_iou(boxes[..., : start + step, :], boxes[..., those, :])
        kept[..., those] = overlaps.triu(diagonal=1 - start).amax(dim=-2) <= iou
    return kept
