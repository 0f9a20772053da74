"""Non-maximum suppression in one step over a matrix of overlaps (YOLACT §4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou


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
        top: candidates of a class, its highest scored boxes (default: twice as many as ``most``).
        most: that remain in the end, of all classes together.

    Returns:
        Rows of ``boxes`` and classes, M int64 each, in descending order of their scores.
    """
    ranked, rows = scores.T.sort(dim=1, descending=True, stable=True)
    top = 2 * most if top is None else top
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
    rows = best.argsort(descending=True, stable=True)[: 2 * most if top is None else top]
    rows = rows[_unsuppressed(boxes[rows], iou)]
    return rows, classes[rows]


def _unsuppressed(boxes: Tensor, iou: float) -> Tensor:
    """…×N×4 in descending order of scores to …×N bool."""
    if not boxes.numel():
        return torch.zeros(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    return box_iou(boxes, boxes).triu(diagonal=1).amax(dim=-2) <= iou
