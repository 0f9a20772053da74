"""Comparison of two models by their prediction files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from b2inst.evaluation.average_precision import warn_of_limit
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
    max_detections: int = 100,
    boundary_pixels: int | None = None,
    jobs: int | None = None,
) -> dict[str, Comparison]:
    """Compare two models on the same images.

    Args:
        first: Prediction files (see ``read_results``) of the first model, one per training seed.
        second: The same of the second model, in the same order of seeds.
        annotations: Ground truth of both, as for ``evaluate``.
        metrics: Names of metrics as returned by ``evaluate``.
        resamples: Number of bootstrap resamples of the images.
        max_detections, boundary_pixels: As for ``evaluate``.
        jobs: Number of files evaluated in parallel (default: number of CPU cores).

    Returns:
        Comparison by metric.

    Raises:
        EvaluationError: A file is invalid or for other images or categories, or the models have
            different numbers of files. Raised before any evaluation.
    """
    if len(first) != len(second):
        raise EvaluationError(
            f"{len(first)} and {len(second)} files to compare; give as many of each, one a seed"
        )
    files = [*first, *second]
    evaluate = partial(
        _resample,
        annotations=annotations,
        metrics=metrics,
        resamples=resamples,
        max_detections=max_detections,
        boundary_pixels=boundary_pixels,
    )
    warn_of_limit(load_ground_truth(annotations), max_detections=max_detections)
    jobs = min(jobs or os.cpu_count() or 1, len(files))
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with nullcontext() if jobs == 1 else ProcessPoolExecutor(jobs, mp_context=context) as pool:
        run: Any = pool.map if pool else map
        images = list(run(partial(_images_of, annotations=annotations), files))
        for (file, own), (other, others) in combinations(zip(files, images, strict=True), 2):
            if own and others and not own & others:
                raise EvaluationError(
                    f"{other}: has no image in common with {file}; predict both on the same images"
                )
        runs = list(run(evaluate, files))
    a, b = runs[: len(first)], runs[len(first) :]
    return {
        metric: Comparison(
            first=[float(run[metric][0]) for run in a],
            second=[float(run[metric][0]) for run in b],
            difference=noise_band([run[metric] for run in b], [run[metric] for run in a]),
        )
        for metric in metrics
    }


def _images_of(file: Path, *, annotations: Annotations) -> set[int]:
    return {record["image_id"] for record in read_results(file, annotations)}


def _resample(file: Path, *, annotations: Annotations, **options: Any) -> dict[str, np.ndarray]:
    truth = load_ground_truth(annotations)
    return resample_ap(read_results(file, truth), truth, **options)
