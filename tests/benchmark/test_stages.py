from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from b2inst.benchmark import stages
from b2inst.benchmark.stages import STAGES, Sample, TimedModel
from b2inst.models import BasisSegmenter, create_model


class Time:
    """Passes only where it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def delay(self, owner: object, method: str, seconds: float) -> None:
        """``method`` takes that long from now on."""
        call = getattr(owner, method)

        def slow(*args: object) -> object:
            self.seconds += seconds
            return call(*args)

        setattr(owner, method, slow)


def _slowed(name: str, time: Time) -> BasisSegmenter:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3).eval()
    parts = [("preprocessor", "resized", 1.0), ("preprocessor", "forward", 2.0)]
    parts += [("backbone", "forward", 4.0), ("instance_head", "forward", 8.0)]
    parts += [("instance_head", "detect", 16.0), ("basis_head", "forward", 32.0)]
    parts += [("assembler", "assemble", 64.0), ("scoring_head", "forward", 128.0)]
    for part, method, seconds in parts:
        if getattr(model, part) is not None:
            time.delay(getattr(model, part), method, seconds)
    return model


@pytest.mark.parametrize("name", ["blendmask-tiny", "b2inst-blendmask-tiny"])
def test_each_part_is_a_stage(
    name: str, sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    model = _slowed(name, time)
    predict = model.predict

    def pasted(images: list[object]) -> object:
        found = predict(images)
        time.seconds += 256.0
        return found

    model.predict = pasted  # type: ignore[assignment]
    monkeypatch.setattr(stages, "encode_rle", lambda _: None)
    time.delay(stages, "encode_rle", 512.0)
    timed = TimedModel(model, clock=time)
    for _ in range(2):  # a second prediction begins anew
        timing = timed.predict(sample(48, 80))
        assert tuple(timing.seconds) == STAGES
        assert timing.seconds == {
            "input": 3.0,
            "backbone": 4.0,
            "heads": 24.0,
            "bases": 32.0,
            "assembly": 64.0,
            "scoring": 128.0 if name.startswith("b2inst") else 0.0,
            "paste": 256.0,
            "RLE": 512.0,
        }
        assert timing.total == sum(timing.seconds.values())
        assert timing.network_size == (96, 160)  # of 96×160 pixels, the model's own size


def test_time_between_parts_belongs_to_the_later_one(sample: Callable[..., Sample]) -> None:
    time = Time()
    torch.manual_seed(0)
    model = create_model("blendmask-tiny", num_classes=3).eval()
    timed = TimedModel(model, clock=time)
    time.delay(model.basis_head, "forward", 5.0)  # around the timed call: before it begins
    timing = timed.predict(sample())
    assert timing.seconds["bases"] == timing.total == 5.0


def test_two_stage_models_find_boxes_in_heads_and_masks_in_assembly(
    sample: Callable[..., Sample],
) -> None:
    time = Time()
    torch.manual_seed(0)
    model = create_model("ms-rcnn-tiny", num_classes=3).eval()
    delays = {"backbone": 1.0, "detector": 2.0, "mask_head": 4.0, "scoring_head": 8.0}
    for part, seconds in delays.items():
        time.delay(getattr(model, part), "detect" if part == "detector" else "forward", seconds)
    timing = TimedModel(model, clock=time).predict(sample())
    parts = ("backbone", "heads", "assembly", "scoring")
    assert {s: timing.seconds[s] for s in parts} == dict(zip(parts, delays.values(), strict=True))
    assert timing.total == 15
