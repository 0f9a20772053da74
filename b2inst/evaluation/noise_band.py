"""The noise a difference of two models carries: of the images drawn and of the training seeds.

Two sources, two intervals. For the images it is the paired bootstrap, with the trained models as
they are. For the seeds it is Student's interval of the mean of the seeds' own differences, measured
on the images as they are. The band holds both: its ends lie from the mean as far as the two ends
together, added as squares (Zou & Donner 2008, "Construction of confidence limits about effect
measures", Statistics in Medicine 27). It is never narrower than either, so a difference outside the
band is outside both, and a little wide rather than narrow: what of the images' noise differs from
seed to seed is in both intervals.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from b2inst.evaluation.bootstrap import Interval, paired_interval
from b2inst.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class NoiseBand:
    """A difference of APs in percent points, and what of it may be noise."""

    band: Interval  #: holds the noise of images and seeds; for one seed, of images alone
    images: Interval  #: over images, the trained models as they are
    seed_sd: float | None  #: sample sd of the seeds' differences; None for one seed
    seeds: int

    @property
    def inside(self) -> bool:
        """Whether the difference may be noise: the band does not exclude zero."""
        return not self.band.excludes_zero


def noise_band(
    runs_a: Sequence[np.ndarray], runs_b: Sequence[np.ndarray], *, level: float = 0.95
) -> NoiseBand | None:
    """Difference ``a - b`` of a metric over paired runs.

    Args:
        runs_a, runs_b: what :func:`~b2inst.evaluation.bootstrap.resample_ap` gave for each run, as
            many of a as of b; the i-th of both were trained with the same seed.
        level: coverage of the band, in (0, 1).

    Returns:
        None where the data have no ground truth for the metric.

    Raises:
        EvaluationError: no run, or not as many of a as of b.
    """
    if len(runs_a) != len(runs_b):
        raise EvaluationError(
            f"{len(runs_a)} and {len(runs_b)} runs to compare; give as many of each, one a seed"
        )
    images = paired_interval(runs_a, runs_b, level=level)
    if images is None:
        return None
    count = len(runs_a)
    if count == 1:
        return NoiseBand(band=images, images=images, seed_sd=None, seeds=1)
    sd = statistics.stdev(float(a[0] - b[0]) for a, b in zip(runs_a, runs_b, strict=True))
    seeds = float(stdtrit(count - 1, (1 + level) / 2)) * sd / math.sqrt(count)
    band = Interval(
        mean=images.mean,
        low=images.mean - math.hypot(max(images.mean - images.low, 0.0), seeds),
        high=images.mean + math.hypot(max(images.high - images.mean, 0.0), seeds),
    )
    return NoiseBand(band=band, images=images, seed_sd=sd, seeds=count)
