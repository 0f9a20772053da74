from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.modules.dynamic_mask_head import at_random, best_of_objects
from b2inst.structures import Positives


def positives(objects: list[tuple[int, int]], scores: list[float]) -> Positives:
    """Of (image, object) pairs; coefficients number them."""
    count = len(objects)
    return Positives(
        image_index=torch.tensor([image for image, _ in objects], dtype=torch.int64),
        target_index=torch.tensor([target for _, target in objects], dtype=torch.int64),
        coefficients=torch.arange(count)[:, None].float(),
        weights=torch.ones(count),
        weight_sum=1.0,
        scores=torch.tensor(scores),
    )


def numbers(chosen: Positives) -> list[int]:
    return [int(n) for n in chosen.coefficients[:, 0].tolist()]


#: Two objects an image: object 0 and 1 in image 0, 2 and 3 in image 1, …
batches = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 10_000)), max_size=40, unique_by=lambda p: p[1]
).map(lambda pairs: positives([(o // 2, o) for o, _ in pairs], [s / 1e4 for _, s in pairs]))


@given(batches, st.integers(1, 30))
def test_the_best_of_each_object_as_many_as_its_image_has_room_for(
    batch: Positives, per_image: int
) -> None:
    expected = []
    for image in range(3):
        rows = [i for i in range(len(batch)) if batch.image_index[i] == image]
        objects = {int(batch.target_index[i]) for i in rows}
        for one in objects:
            own = [i for i in rows if batch.target_index[i] == one]
            own.sort(key=lambda i: -batch.scores[i].item())  # type: ignore[index]
            expected += own[: max(per_image // len(objects), 1)]
    assert sorted(numbers(best_of_objects(batch, per_image=per_image))) == sorted(expected)


def test_every_object_keeps_one() -> None:
    batch = positives([(0, 0), (0, 1), (0, 1), (0, 2)], [0.1, 0.5, 0.9, 0.2])
    assert numbers(best_of_objects(batch, per_image=1)) == [0, 2, 3]


def test_up_to_the_limit_all_stay_in_order() -> None:
    batch = positives([(0, 0)] * 5 + [(1, 1)] * 5, [0.5] * 10)
    assert numbers(at_random(batch, per_image=5)) == list(range(10))
    assert numbers(at_random(positives([], []))) == []


def test_above_the_limit_any_may_be_drawn_and_none_twice() -> None:
    torch.manual_seed(0)
    batch = positives([(0, 0)] + [(1, 1)] * 6 + [(3, 2)] * 4, [0.5] * 11)
    drawn = [numbers(at_random(batch, per_image=4)) for _ in range(60)]
    assert all(one == sorted(set(one)) for one in drawn)
    assert all({0, 7, 8, 9, 10} < set(one) and len(one) == 9 for one in drawn)
    assert len({tuple(one) for one in drawn}) == 15  # all of the choices of 4 from 6
    assert len(at_random(positives([(0, 0)] * 251, [0.5] * 251))) == 250
