"""The limit of instances in an image, through every family."""

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
    model = create_model(name, num_classes=1, **FAMILIES[name], **options).eval()
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
    with pytest.raises(ValueError, match="max_detections 0: give 1 or more"):
        model.max_detections = 0
