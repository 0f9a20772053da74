"""What is measured of a run's predictions, against each metric's own module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from b2inst.data import CocoIndex, find_split, write_scenes
from b2inst.evaluation import Metrics
from b2inst.experiments.runs.measuring import measure
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.tables.score_quality import ap_by_ranking


def test_masks_ranked_by_class_are_measured_beside_their_own_ranking(
    spec: RunSpec, tmp_path: Path
) -> None:
    """Against the other implementation, which ranks the matches anew."""
    write_scenes(tmp_path, split="val", images=6, size=64, seed=0)
    truth = find_split(tmp_path, "val")[0]
    index = CocoIndex.load(*find_split(tmp_path, "val"))
    random = np.random.default_rng(0)
    detections = [
        {
            "image_id": record.id,
            "category_id": index.category_ids[random.integers(2)],
            "bbox": [0, 0, 8, 8],
            "segmentation": found.rle,
            "score": float(random.random()),
            "class_score": float(random.random()),
            "iou_score": 0.5,
        }
        for record in index.images
        for found in index.annotations[record.id]
        for _ in range(3)
    ]
    metrics, resampled = _measured(detections, index, spec)
    by_class = np.array([d["class_score"] for d in detections])
    own = np.array([d["score"] for d in detections])
    expected = ap_by_ranking(detections, truth, {"own": own, "class": by_class})
    assert metrics["AP"] != metrics["class_AP"]
    for metric in ("AP", "boundary_AP"):
        assert metrics[metric] == pytest.approx(expected[metric]["own"])
        assert metrics[f"class_{metric}"] == pytest.approx(expected[metric]["class"])
        assert resampled[f"class_{metric}"][0] == pytest.approx(metrics[f"class_{metric}"])

    unrated = [{k: v for k, v in d.items() if k != "iou_score"} for d in detections]
    metrics, _ = _measured(unrated, index, spec)
    assert metrics["class_AP"] == metrics["AP"]


def _measured(
    detections: list[dict[str, Any]], truth: CocoIndex, spec: RunSpec
) -> tuple[Metrics, dict[str, np.ndarray]]:
    found = measure(detections, truth, spec)
    return found.metrics, found.resampled
