"""Boundary AP image by image: how much better one model is than another, and where."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from b2inst.evaluation import Prediction
from b2inst.evaluation.average_precision import load_checked, run_evaluators
from b2inst.evaluation.ground_truth import Annotations
from b2inst.evaluation.matches import match, weighted_precision


def boundary_ap_by_image(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    image_ids: Collection[int] | None = None,
    max_detections: int = 100,
    boundary_pixels: int | None = None,
) -> dict[int, float]:
    """Boundary AP in percent of each image, as if there were no other.

    The AP of a few objects moves in large steps: it tells which images to look at, no more.

    Args:
        predictions, annotations, image_ids, max_detections, boundary_pixels: as ``evaluate`` takes
            them.

    Returns:
        By image id; images without an object that counts are left out.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    truth = load_checked(predictions, annotations)
    shown = sorted(truth.imgs if image_ids is None else truth.imgs.keys() & set(image_ids))
    wanted = set(shown)
    evaluators = run_evaluators(
        truth,
        [record for record in predictions if record["image_id"] in wanted],
        ["boundary"],
        max_detections=max_detections,
        boundary_pixels=boundary_pixels,
    )
    categories = match(evaluators["boundary"])
    # A weighting for each image.
    alone = (np.array(shown)[:, None] == np.array(sorted(truth.imgs))).astype(np.int32)
    values = 100 * weighted_precision(categories, alone).mean(axis=1)
    found = zip(shown, values.tolist(), strict=True)
    return {image_id: value for image_id, value in found if not np.isnan(value)}
