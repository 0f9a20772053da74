"""Pairs of published and own detections, whatever the order of almost equal scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

#: How far apart the two of a pair may be, in pixels and in score.
BOX_TOLERANCE = 1e-2
SCORE_TOLERANCE = 1e-4

_FAR = 100.0  # tolerances; what is further apart is all the same


def match(ours: dict[str, NDArray[Any]], published: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Our row of each published detection, all pairs together as close as can be.

    Args:
        ours, published: ``boxes`` N×4, ``scores`` N and ``classes`` N. We may have more rows.
    """
    box = np.abs(ours["boxes"][None] - published["boxes"][:, None]).max(2, initial=0)
    score = np.abs(ours["scores"][None] - published["scores"][:, None])
    other_class = ours["classes"][None] != published["classes"][:, None]
    cost = sum(
        np.nan_to_num(part, nan=_FAR, posinf=_FAR).clip(max=_FAR)
        for part in (box / BOX_TOLERANCE, score / SCORE_TOLERANCE, other_class * _FAR)
    )
    rows: NDArray[np.int64] = linear_sum_assignment(cost)[1]
    return rows
