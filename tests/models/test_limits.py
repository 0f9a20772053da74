"""Limits of the number and the score of instances, through every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from b2inst.models import BasisSegmenter, Segmenter, TwoStageSegmenter, create_model
from b2inst.modules.fcos_head import FCOSHead

FAMILIES = {
    "blendmask-tiny": {"shorter": None, "longer_max": None},
    "condinst-tiny": {"shorter": None, "longer_max": None},
    "yolact-tiny": {"keep_size": True, "size": 96},
    "maskrcnn-tiny": {"shorter": None, "longer_max": None},
    "pointrend-tiny": {"shorter": None, "longer_max": None},
    "fcis-tiny": {"shorter": None, "longer_max": None},
    "mnc-tiny": {"shorter": None, "longer_max": None},
    "masklab-tiny": {"shorter": None, "longer_max": None},
    "tensormask-tiny": {"shorter": None, "longer_max": None},
}


def _finds_much(name: str, **options: object) -> Segmenter:
    torch.manual_seed(0)
    settings = FAMILIES[name.removeprefix("b2inst-")]
    model = create_model(name, num_classes=1, **settings, **options).eval()
    if isinstance(model, TwoStageSegmenter):
        model.detector.score_threshold = 0.0
    else:
        assert isinstance(model, BasisSegmenter)
        head = model.instance_head
        head.score_threshold = 0.0  # type: ignore[attr-defined]
        if isinstance(head, FCOSHead):
            torch.nn.init.constant_(head.distances.bias, 1.0)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_the_limit_is_what_it_says_and_100_changes_nothing(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    model = _finds_much(name)
    assert model.max_detections == 100
    (plain,) = model.predict([image])
    for limit in (3, 100):
        model.max_detections = limit
        (found,) = model.predict([image])
        assert found.masks.equal(plain.masks[:limit])
    model.max_detections = 250
    assert len(model.predict([image])[0]) == 250


@pytest.mark.parametrize("name", FAMILIES)
def test_the_limit_is_an_option_that_the_recipe_keeps(name: str) -> None:
    model = create_model(name, num_classes=1, max_detections=7)
    assert model.max_detections == 7
    assert model.recipe["options"] == {"max_detections": 7}
    again = create_model(name, num_classes=1, **model.recipe["options"])
    assert again.max_detections == 7
    for wrong in (0, 2.5, "5"):
        with pytest.raises(ValueError, match=f"max_detections {wrong!r}: give a whole number"):
            model.max_detections = wrong  # type: ignore[assignment]


@pytest.mark.parametrize("name", [*FAMILIES, "b2inst-blendmask-tiny"])
def test_a_minimum_score_leaves_out_what_is_below(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    model = _finds_much(name, max_detections=20)
    (plain,) = model.predict([image])
    middle = float(plain.scores.sort().values[len(plain) // 2])
    model.min_score = middle
    (found,) = model.predict([image])
    assert 0 < len(found) == int((plain.scores >= middle).sum()) < len(plain)
    rows = slice(len(found))
    torch.testing.assert_close(found.scores, plain.scores[rows])
    torch.testing.assert_close(found.boxes, plain.boxes[rows])
    assert found.masks.ne(plain.masks[rows]).float().mean() < 1e-4  # other sums of other batches
    model.min_score = 1.0
    assert model.predict([image])[0].masks.shape == (0, 96, 96)


def test_no_mask_is_made_of_what_cannot_reach_the_minimum_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    model = _finds_much("b2inst-blendmask-tiny")
    assert isinstance(model, BasisSegmenter)
    (plain,) = model.predict([image])
    made: list[int] = []
    assemble = model.assembler.assemble

    def counted(bases: object, boxes: object, coefficients: torch.Tensor) -> object:
        made.append(len(coefficients))
        return assemble(bases, boxes, coefficients)  # type: ignore[arg-type]

    monkeypatch.setattr(model.assembler, "assemble", counted)
    model.min_score = float(plain.class_scores.median())
    model.predict([image])
    assert made == [int((plain.class_scores >= model.min_score).sum())]
    assert made[0] < len(plain)


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
def test_the_minimum_score_is_a_probability(score: float) -> None:
    model = create_model("blendmask-tiny", num_classes=1)
    with pytest.raises(ValueError, match=f"min_score {score}: give a number from 0 to 1"):
        model.min_score = score
