"""Comparison of two models by their prediction files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from b2inst.evaluation.average_precision import EvaluationOptions, warn_of_limit
from b2inst.evaluation.bootstrap import NoiseBand, noise_band, resample_ap
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth
from b2inst.evaluation.predictions import EvaluationError
from b2inst.evaluation.results import read_results

#: Metrics that are compared.
METRICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("boundary_AP", "boundary_AP50", "boundary_AP75"),
    *("box_AP", "box_AP50", "box_AP75"),
)


@dataclass(frozen=True)
class Comparison:
    """A metric of two models, in percent, with one value per file."""

    first: list[float]
    second: list[float]
    difference: NoiseBand | None  #: second minus first; None without ground truth


def compare(
    first: Sequence[Path],
    second: Sequence[Path],
    annotations: Annotations,
    *,
    metrics: Sequence[str] = METRICS,
    resamples: int = 1000,
    **options: Unpack[EvaluationOptions],
) -> dict[str, Comparison]:
    """Compare two models on the same images, by metric.

    Each has prediction files (see ``read_results``), one per training seed in the same order. An
    EvaluationError of any of them is raised before any evaluation.
    """
    if len(first) != len(second):
        raise EvaluationError(
            f"{len(first)} and {len(second)} files to compare; give as many of each, one a seed"
        )
    truth = load_ground_truth(annotations)
    warn_of_limit(truth, max_detections=options.get("max_detections", 100))
    seen: dict[Path, set[int]] = {}
    for file in (*first, *second):  # read twice, since the detections of all may not fit in memory
        seen[file] = {record["image_id"] for record in read_results(file, truth)}
        for other, images in seen.items():
            if images and seen[file] and not images & seen[file]:
                raise EvaluationError(
                    f"{file}: has no image in common with {other}; predict both on the same images"
                )

    def resampled(file: Path) -> dict[str, np.ndarray]:
        found = read_results(file, truth)
        return resample_ap(found, truth, metrics=metrics, resamples=resamples, **options)

    a, b = (list(map(resampled, files)) for files in (first, second))
    return {
        metric: Comparison(
            first=[float(run[metric][0]) for run in a],
            second=[float(run[metric][0]) for run in b],
            difference=noise_band([run[metric] for run in b], [run[metric] for run in a]),
        )
        for metric in metrics
    }
