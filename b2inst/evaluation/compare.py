"""Two models from their prediction files: differences of AP and the noise they carry."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from b2inst.evaluation.average_precision import warn_of_limit
from b2inst.evaluation.bootstrap import resample_ap
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth
from b2inst.evaluation.noise_band import NoiseBand, noise_band
from b2inst.evaluation.results import read_results

#: What is compared: mask, boundary and box AP.
METRICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("boundary_AP", "boundary_AP50", "boundary_AP75"),
    *("box_AP", "box_AP50", "box_AP75"),
)


@dataclass(frozen=True)
class Comparison:
    """A metric of two models, in percent; one value a file."""

    first: list[float]
    second: list[float]
    difference: NoiseBand | None  #: second less first; None without ground truth


def compare(
    first: Sequence[Path],
    second: Sequence[Path],
    annotations: Annotations,
    *,
    metrics: Sequence[str] = METRICS,
    resamples: int = 1000,
    max_detections: int = 100,
    boundary_pixels: int | None = None,
    jobs: int | None = None,
) -> dict[str, Comparison]:
    """Compare two models on the same images, by metric.

    Args:
        first, second: prediction files (``read_results``), as many of each: one a training seed,
            in the same order.
        annotations: the ground truth that both were predicted for, as ``evaluate`` takes it.
        metrics: names as ``evaluate`` gives them.
        resamples: of the images, for the bootstrap.
        max_detections, boundary_pixels: as ``evaluate``, which warns as this does.
        jobs: files evaluated at a time, each by a process (default: one a core; 1: this process).

    Raises:
        EvaluationError: a file is not valid, is for other images or categories, or there are not as
            many of both; raised before any evaluation.
    """
    if len(first) != len(second):
        raise EvaluationError(
            f"{len(first)} and {len(second)} files to compare; give as many of each, one a seed"
        )
    files = [*first, *second]
    check = partial(images_of, annotations=annotations)
    work = partial(
        _resample,
        annotations=annotations,
        metrics=metrics,
        resamples=resamples,
        max_detections=max_detections,
        boundary_pixels=boundary_pixels,
    )
    warn_of_limit(load_ground_truth(annotations), max_detections=max_detections)
    jobs = min(jobs or os.cpu_count() or 1, len(files))
    if jobs == 1:
        check_common(files, [check(file) for file in files])
        resampled = [work(file) for file in files]
    else:
        # Spawned, since a fork of a process with threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            check_common(files, list(pool.map(check, files)))
            resampled = list(pool.map(work, files))
    result = {}
    for metric in metrics:
        values = [run[metric] for run in resampled]
        a, b = values[: len(first)], values[len(first) :]
        result[metric] = Comparison(
            first=[float(v[0]) for v in a],
            second=[float(v[0]) for v in b],
            difference=noise_band(b, a),
        )
    return result


def images_of(file: Path, *, annotations: Annotations) -> set[int]:
    """The images that a prediction file has detections on.

    Raises:
        EvaluationError: it is not valid, or is for other images or categories.
    """
    return {record["image_id"] for record in read_results(file, annotations)}


def check_common(files: Sequence[Path], images: Sequence[set[int]]) -> None:
    """See that prediction files can be for the same images.

    Raises:
        EvaluationError: two that have detections have them on no image in common.
    """
    for (file, own), (other, others) in combinations(zip(files, images, strict=True), 2):
        if own and others and not own & others:
            raise EvaluationError(
                f"{other}: has no image in common with {file}; predict both on the same images"
            )


def _resample(file: Path, *, annotations: Annotations, **options: Any) -> dict[str, np.ndarray]:
    truth = load_ground_truth(annotations)
    return resample_ap(read_results(file, truth), truth, **options)
