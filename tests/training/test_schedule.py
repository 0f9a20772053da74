from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from b2inst.models import create_model
from b2inst.training import Schedule


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [
        (0, 0.001),
        (500, 0.5005),
        (999, 0.999001),
        (1000, 1),
        (59_999, 1),
        (60_000, 0.1),
        (79_999, 0.1),
        (80_000, 0.01),
        (89_999, 0.01),
    ],
)
def test_the_papers_schedule(iteration: int, factor: float) -> None:
    assert Schedule().factor(iteration) == pytest.approx(factor)


def test_one_cycle_is_a_warm_up_and_half_a_cosine() -> None:
    schedule = Schedule(policy="one-cycle", iterations=110, warmup_iterations=10, milestones=())
    assert schedule.factor(5) == pytest.approx(0.5005)
    assert schedule.factor(10) == 1
    assert schedule.factor(35) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert schedule.factor(60) == pytest.approx(0.5)
    assert schedule.factor(110) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("factor", "iterations", "milestones"),
    [
        # detectron2's 2x and 3x, and the 6x of "Rethinking ImageNet Pre-training" (its Table 2).
        (1, 90_000, (60_000, 80_000)),
        (2, 180_000, (120_000, 160_000)),
        (3, 270_000, (210_000, 250_000)),
        (6, 540_000, (480_000, 520_000)),
        (0.1, 9_000, (6_000, 8_000)),
    ],
)
def test_longer_schedules_are_the_published_ones(
    factor: float, iterations: int, milestones: tuple[int, ...]
) -> None:
    scaled = Schedule().scaled_by(factor)
    assert (scaled.iterations, scaled.milestones) == (iterations, milestones)
    changed = {"iterations", "milestones"}
    assert scaled.model_dump(exclude=changed) == Schedule().model_dump(exclude=changed)


schedules = st.builds(
    Schedule,
    iterations=st.integers(1, 300_000),
    batch_size=st.integers(1, 64),
    warmup_iterations=st.integers(0, 2000),
    milestones=st.lists(st.integers(0, 300_000), max_size=4).map(lambda m: tuple(sorted(m))),
    optimizer=st.sampled_from(["sgd", "adamw"]),
)


@given(schedules, st.integers(1, 512))
def test_another_batch_sees_the_same_images(schedule: Schedule, size: int) -> None:
    scaled = schedule.for_batch(size)
    assert scaled.batch_size == size

    def moments(of: Schedule) -> list[int]:
        return [n * of.batch_size for n in (of.warmup_iterations, *of.milestones, of.iterations)]

    for ours, theirs in zip(moments(scaled), moments(schedule), strict=True):
        assert abs(ours - theirs) <= size
    untouched = {
        *("batch_size", "learning_rate"),
        *("iterations", "milestones", "warmup_iterations"),
    }
    assert scaled.model_dump(exclude=untouched) == schedule.model_dump(exclude=untouched)
    Schedule.model_validate(scaled.model_dump())  # model_copy checks nothing


@given(schedules)
def test_the_same_batch_is_the_same_schedule(schedule: Schedule) -> None:
    assert schedule.for_batch(schedule.batch_size) == schedule


@given(schedules, st.integers(1, 512))
def test_there_and_back(schedule: Schedule, size: int) -> None:
    back = schedule.for_batch(size).for_batch(schedule.batch_size)
    assert back.learning_rate == pytest.approx(schedule.learning_rate)
    rounding = 0.5 * size / schedule.batch_size + 0.5  # iterations, of the two roundings
    assert abs(back.warmup_iterations - schedule.warmup_iterations) <= rounding
    for ours, theirs in zip(back.milestones, schedule.milestones, strict=True):
        assert abs(ours - theirs) <= rounding


@pytest.mark.parametrize(
    ("optimizer", "size", "rate"),
    # The linear rule: detectron2's 0.02 for 16 images is 0.16 for 128 and 0.0025 for 2.
    [("sgd", 128, 0.16), ("sgd", 2, 0.0025), ("adamw", 64, 0.04), ("adamw", 4, 0.01)],
)
def test_the_learning_rate_follows_the_batch(optimizer: str, size: int, rate: float) -> None:
    schedule = Schedule(learning_rate=0.02, optimizer=optimizer)  # type: ignore[arg-type]
    assert schedule.for_batch(size).learning_rate == pytest.approx(rate)


def test_yolacts_batch_of_16_is_what_its_code_makes_of_it() -> None:
    """dbolya/yolact, train.py: lr *= factor, max_iter //= factor, lr_steps = x // factor."""
    published = Schedule(
        batch_size=8, iterations=800_000, learning_rate=1e-3, milestones=(280_000, 600_000)
    )
    scaled = published.for_batch(16)
    assert (scaled.iterations, scaled.milestones) == (400_000, (140_000, 300_000))
    assert scaled.learning_rate == pytest.approx(2e-3)


@pytest.mark.parametrize("policy", ["steps", "one-cycle"])
def test_no_warm_up(policy: str) -> None:
    assert Schedule(policy=policy, warmup_iterations=0).factor(0) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"milestones": (80, 60)},
        {"iterations": 0},
        {"learning_rate": 0},
        {"optimizer": "lamb"},
        {"learning_rat": 0.1},
        {"warmup_factor": 0},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Schedule(**wrong)  # type: ignore[arg-type]


def network() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    net[3].requires_grad_(False)
    return net


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_normalisation_is_not_decayed_and_frozen_parameters_are_left_out(
    name: str, kind: type
) -> None:
    net = network()
    optimizer, _ = Schedule(optimizer=name, weight_decay=0.05).optimizer_for(net)  # type: ignore[arg-type]
    assert isinstance(optimizer, kind)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    expected = {id(p): 0.05 for p in net[0].parameters()}
    expected |= {id(p): 0.0 for layer in (net[1], net[2]) for p in layer.parameters()}
    assert decay == expected


def test_the_scheduler_follows_the_factor() -> None:
    schedule = Schedule(learning_rate=0.5, iterations=8, warmup_iterations=2, milestones=(4, 6))
    optimizer, scheduler = schedule.optimizer_for(network())
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.0005, 0.25025, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b2inst-blendmask-tiny", {}),
        ("b2inst-blendmask-550-r50", {}),
        ("b2inst-blendmask-tiny", {"tower_convs": 0}),
        ("yolact-tiny", {"prototype_convs": 0}),
    ],
)
def test_every_trainable_parameter_of_a_model_is_in_one_group(
    name: str, options: dict[str, int]
) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=3, **options)
    optimizer, _ = Schedule(iterations=10).optimizer_for(model)
    decayed, others = (group["params"] for group in optimizer.param_groups)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in decayed} | {id(p) for p in others} == {id(p) for p in trained}
    assert len(decayed) + len(others) == len(trained)
    norms = [
        m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm)
    ]
    assert {id(p) for p in others} == {id(p) for m in norms for p in m.parameters()}
