"""Fast NMS (YOLACT §4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

_PAIRS = 2**22  # pairs of boxes whose IoU is computed at once


def fast_nms(boxes: Tensor, scores: Tensor, *, most: int = 100) -> tuple[Tensor, Tensor]:
    """Suppress boxes (N×4) that overlap a box of higher score (N×C) by over half, for each class.

    Unlike in standard NMS, suppressed boxes suppress others too. A box may be kept for several
    classes. Of each class 200 candidates are considered as published, and 10 more per detection
    above 100, since dense objects of one class share them.

    Returns:
        Row of ``boxes`` and class of at most ``most`` detections, M int64 each, by score.
    """
    ranked, rows = scores.T.sort(dim=1, descending=True, stable=True)
    ranked, rows = ranked[:, : _candidates(most)], rows[:, : _candidates(most)]
    classes, places = _unsuppressed(boxes[rows]).nonzero(as_tuple=True)
    order = ranked[classes, places].argsort(descending=True, stable=True)[:most]
    classes, places = classes[order], places[order]
    return rows[classes, places], classes


def cross_class_fast_nms(
    boxes: Tensor, scores: Tensor, *, most: int = 100
) -> tuple[Tensor, Tensor]:
    """Like ``fast_nms``, for the best class of each box; candidates suppress other classes too."""
    best, classes = scores.max(dim=1)
    rows = best.argsort(descending=True, stable=True)[: _candidates(most)]
    rows = rows[_unsuppressed(boxes[rows])]
    return rows, classes[rows]


def _candidates(most: int) -> int:
    return 200 + 10 * max(most - 100, 0)


def _unsuppressed(boxes: Tensor) -> Tensor:
    """Find the kept boxes of …×N×4 in descending order of score: …×N bool."""
    kept = torch.zeros(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    step = max(_PAIRS // max(kept.numel(), 1), 1)
    for start in range(0, kept.shape[-1], step):
        chunk = slice(start, start + step)
        overlaps = box_iou(boxes[..., : start + step, :], boxes[..., chunk, :])
        kept[..., chunk] = overlaps.triu(diagonal=1 - start).amax(dim=-2) <= 0.5
    return kept
