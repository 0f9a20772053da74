from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference.matching import match


def _random(count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    corner = random.uniform(-20, 300, (count, 2))
    return {
        "boxes": np.concatenate([corner, corner + random.uniform(0, 90, (count, 2))], 1),
        "scores": random.uniform(0.2, 1, count),
        "classes": random.integers(0, 80, count),
    }


@given(st.integers(1, 40), st.integers(0, 999), st.sampled_from(["boxes", "scores", "classes", ""]))
def test_pairs_are_found_in_any_order_though_one_value_is_wrong(
    count: int, seed: int, wrong: str
) -> None:
    ours = _random(count, seed)
    random = np.random.default_rng(seed)
    rows = random.permutation(count)
    published = {name: values[rows].copy() for name, values in ours.items()}
    published["boxes"] += random.uniform(-5e-3, 5e-3, (count, 4))
    published["scores"] += random.uniform(-5e-5, 5e-5, count)
    if wrong:
        published[wrong].flat[0] += 7
    assert match(ours, published).tolist() == rows.tolist()


def test_infinite_boxes_and_more_rows_of_ours() -> None:
    ours = _random(5, 0)
    published = {name: values[[3, 1]].copy() for name, values in ours.items()}
    published["boxes"][0] = np.nan
    published["scores"][1] = np.inf
    assert match(ours, published).tolist() == [3, 1]
    assert match(ours, {name: values[:0] for name, values in ours.items()}).tolist() == []
