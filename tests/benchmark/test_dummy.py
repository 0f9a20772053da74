from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from b2inst.benchmark.stages import DummyDetections, Sample
from b2inst.models import CATALOG, create_model


@pytest.mark.parametrize("name", sorted(n for n in CATALOG if n.endswith("-tiny")))
def test_untrained_models_find_as_many_as_asked(name: str, sample: Callable[..., Sample]) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3).eval()
    dummies = DummyDetections(model, 7)
    for seed, size in enumerate([(64, 80), (80, 64)]):
        dummies.sample = sample(*size, seed)
        (found,) = model.predict([dummies.sample.image])
        assert len(found) == 7
        # Each object's box in turn, every side moved by at most a tenth of the box.
        truth = torch.from_numpy(dummies.sample.boxes)
        sides = truth[:, 2:] - truth[:, :2]
        off = (found.boxes[:, None] - truth).abs() <= 0.1 * sides.repeat(1, 2) + 0.01
        nearest = off.all(2)
        assert nearest.any(1).all()
        assert sorted(nearest.sum(0).tolist()) == [3, 4]


def test_the_head_does_its_work(sample: Callable[..., Sample]) -> None:
    torch.manual_seed(0)
    model = create_model("blendmask-tiny", num_classes=3).eval()
    dummies = DummyDetections(model, 5)
    dummies.sample = sample()
    detect = dummies._detect
    counts = []

    def counted(outputs: object) -> object:
        found = detect(outputs)
        counts.append(len(found[0]))
        return found

    dummies._detect = counted
    model.predict([dummies.sample.image])
    calls = len(counts)
    assert counts[-2] >= 5 > max([0, *counts[:-2]])  # the highest threshold that does
    model.predict([dummies.sample.image])
    assert len(counts) == calls + 1  # calibrated once
