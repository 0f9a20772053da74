"""The band against Student's interval, the bootstrap's, and its coverage in simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from b2inst.evaluation import EvaluationError, noise_band


def runs(seed: int, *, seeds: int = 3, centre: float = 0.0) -> list[np.ndarray]:
    """Made-up output of ``resample_ap``: a value on the images as they are, then 200 resamples."""
    rng = np.random.default_rng(seed)
    return [value + rng.normal(size=201) for value in rng.normal(centre, 1, size=seeds)]


def test_one_seed_has_the_noise_of_the_images_alone() -> None:
    a, b = runs(0, seeds=1), runs(1, seeds=1)
    found = noise_band(a, b)
    assert found is not None
    assert found.band == found.images
    difference = a[0] - b[0]
    assert found.band == pytest.approx((difference[0], *np.percentile(difference[1:], [2.5, 97.5])))
    assert found.seed_sd is None


def test_without_noise_of_images_it_is_students_interval() -> None:
    values_a, values_b = np.array([41.0, 43.5, 40.0]), np.array([40.5, 41.0, 39.0])
    found = noise_band([np.full(11, v) for v in values_a], [np.full(11, v) for v in values_b])
    assert found is not None
    difference = values_a - values_b
    expected = stats.t.interval(0.95, 2, loc=difference.mean(), scale=stats.sem(difference))
    assert (found.band.low, found.band.high) == pytest.approx(expected)
    assert found.seed_sd == pytest.approx(difference.std(ddof=1))
    assert found.band.low <= 0 <= found.band.high


def test_without_noise_of_seeds_it_is_the_bootstraps_interval() -> None:
    a, b = runs(0, seeds=1, centre=9) * 3, runs(1, seeds=1) * 3
    found = noise_band(a, b)
    assert found is not None
    assert (found.band.low, found.band.high) == pytest.approx((found.images.low, found.images.high))
    assert found.band.low > 0


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(-3, 3))
def test_what_is_inside_either_noise_is_inside_the_band(
    seed: int, seeds: int, centre: float
) -> None:
    a, b = runs(seed, seeds=seeds, centre=centre), runs(seed + 1, seeds=seeds)
    found = noise_band(a, b)
    assert found is not None
    difference = [x[0] - y[0] for x, y in zip(a, b, strict=True)]
    low, high = stats.t.interval(
        0.95, seeds - 1, loc=np.mean(difference), scale=stats.sem(difference)
    )
    assert found.band.low <= min(low, found.images.low) + 1e-9
    assert found.band.high >= max(high, found.images.high) - 1e-9


@pytest.mark.parametrize(
    ("of_seeds", "of_images", "most"), [(0.0, 1.0, 1.0), (1.0, 0.0, 0.97), (1.0, 0.5, 1.0)]
)
def test_the_band_covers_the_true_difference(
    of_seeds: float, of_images: float, most: float
) -> None:
    """Studies of three seeds, whose noise is the seeds', the images' or of both."""
    images, resamples, studies, truth = 150, 300, 1000, 1.0
    rng = np.random.default_rng(0)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=resamples) / images
    weights = np.vstack([np.full(images, 1 / images), draws])
    covered = covered_by_images = 0
    for _ in range(studies):
        common = rng.normal(size=images)
        own = of_seeds * rng.normal(size=(3, 1)) + 0.3 * of_images * rng.normal(size=(3, images))
        difference = truth + own + of_images * np.sqrt(images) * common  # of each image
        found = noise_band(list(difference @ weights.T), [np.zeros(resamples + 1)] * 3)
        assert found is not None
        covered += found.band.low <= truth <= found.band.high
        covered_by_images += found.images.low <= truth <= found.images.high
    # Three standard errors of a share measured in 1000 studies are 0.02.
    assert 0.93 <= covered / studies <= most
    if of_seeds:
        assert covered_by_images / studies < 0.85, "the bootstrap alone leaves the seeds out"


def test_runs_are_paired_and_there_is_something_to_measure() -> None:
    with pytest.raises(EvaluationError, match="2 and 3 runs to compare; give as many of each"):
        noise_band(runs(0, seeds=2), runs(1))
    with pytest.raises(EvaluationError, match="0 and 0 runs to compare"):
        noise_band([], [])
    nothing = [np.full(11, np.nan)] * 3
    assert noise_band(nothing, nothing) is None
