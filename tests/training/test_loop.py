from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from b2inst.data import CocoDataset
from b2inst.models import BasisSegmenter
from b2inst.training import CheckpointError, NonFiniteLossError, Schedule
from b2inst.training.loop import _Training
from b2inst.weights import load_model
from b2inst.weights.files import model_card

Run = Callable[..., dict[str, Any]]
MakeDataset = Callable[..., CocoDataset]
MakeModel = Callable[..., BasisSegmenter]


def log(out: Path) -> list[dict[str, float]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(value.equal(other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where an uninterrupted training lies, and its weights, once there is one."""
    return {"out": tmp_path_factory.mktemp("whole")}


@pytest.fixture
def whole(finished: dict[str, Any], run: Run, dataset: MakeDataset) -> dict[str, Any]:
    if "state" not in finished:
        finished["state"] = run(finished["out"], dataset())
    return finished


def test_a_run_leaves_a_log_and_weights(
    whole: dict[str, Any], schedule: Schedule, model: MakeModel
) -> None:
    out: Path = whole["out"]
    assert sorted(p.name for p in out.iterdir()) == ["log.jsonl", "model.safetensors"]
    lines = log(out)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        losses = {k: v for k, v in line.items() if k.startswith("loss_")}
        assert len(losses) == 8
        assert line["total"] == pytest.approx(sum(losses.values()), rel=1e-5)
        assert line["lr"] == pytest.approx(0.01 * schedule.factor(int(line["iteration"]) - 1))
    assert not equal(whole["state"], model().state_dict())
    loaded = load_model(out / "model.safetensors")
    assert equal(whole["state"], loaded.state_dict())


def test_a_trained_model_knows_the_category_ids(
    run: Run, model: MakeModel, dataset: MakeDataset, schedule: Schedule, tmp_path: Path
) -> None:
    data, trained = dataset(), model()
    ids = tuple(range(3, 11))
    data.index = replace(data.index, category_ids=ids)
    run(tmp_path, data, model=trained, schedule=schedule.model_copy(update={"iterations": 1}))
    assert trained.category_ids == load_model(tmp_path / "model.safetensors").category_ids == ids


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_gone_on_equals_uninterrupted(
    whole: dict[str, Any], run: Run, dataset: MakeDataset, tmp_path: Path, number: int
) -> None:
    stopped = dataset(5, lambda: signal.raise_signal(number))  # in the third batch of two
    with pytest.raises(KeyboardInterrupt, match="stopped after iteration 3; rerun to resume"):
        run(tmp_path, stopped)
    assert (tmp_path / "checkpoint.pt").exists()
    assert equal(run(tmp_path, dataset()), whole["state"])
    assert log(tmp_path) == log(whole["out"])
    assert not (tmp_path / "checkpoint.pt").exists()


class Noisy(BasisSegmenter):
    """Draws random numbers while it trains, as one with dropout would."""

    def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        losses = super().forward(images, targets)
        return {name: value * torch.rand(()) for name, value in losses.items()}


def test_random_numbers_go_on_too(
    run: Run, dataset: MakeDataset, model: MakeModel, tmp_path: Path
) -> None:
    def noisy() -> BasisSegmenter:
        made = model("blendmask-tiny")
        made.__class__ = Noisy
        return made

    whole = run(tmp_path / "whole", dataset(), model=noisy())
    stopped = dataset(5, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stopped, model=noisy())
    torch.manual_seed(123)
    assert equal(run(tmp_path / "parts", dataset(), model=noisy()), whole)


def test_cut_off_without_warning_goes_on_from_the_last_checkpoint(
    whole: dict[str, Any], run: Run, dataset: MakeDataset, tmp_path: Path
) -> None:
    def die() -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, dataset(2 * 5, die))  # the sixth iteration; the last checkpoint is of the 4th
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"iteration": 6, "lo')  # a line that was being written
    assert equal(run(tmp_path, dataset()), whole["state"])
    assert log(tmp_path) == log(whole["out"])


def test_stopped_after_the_last_iteration_only_the_weights_are_missing(
    whole: dict[str, Any], run: Run, dataset: MakeDataset, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dataset(11, lambda: signal.raise_signal(signal.SIGINT)))
    assert equal(run(tmp_path, dataset()), whole["state"])
    assert (tmp_path / "model.safetensors").exists()


def test_a_checkpoint_of_another_model_or_schedule_is_refused(
    run: Run, dataset: MakeDataset, model: MakeModel, schedule: Schedule, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dataset(1, lambda: signal.raise_signal(signal.SIGINT)))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    other = model("blendmask-tiny")
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.pt: checkpoint of another model.*another folder"
    ):
        run(tmp_path, dataset(), model=other)
    longer = schedule.model_copy(update={"iterations": 60})
    with pytest.raises(CheckpointError, match="checkpoint of another schedule"):
        run(tmp_path, dataset(), schedule=longer)
    (tmp_path / "checkpoint.pt").write_bytes(kept[: len(kept) // 2])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: unreadable.*delete it"):
        run(tmp_path, dataset())


def test_a_loss_that_is_not_finite_names_itself_and_its_images(
    run: Run, dataset: MakeDataset, model: MakeModel, tmp_path: Path
) -> None:
    seen: list[int] = []

    class Recording(BasisSegmenter):
        def forward(self, images: Any, targets: Any) -> Any:
            losses = super().forward(images, targets)
            seen[:] = [target.image_id for target in targets]
            if len(calls) == 3:
                losses["loss_mask"] = losses["loss_mask"] * torch.nan
            calls.append(1)
            return losses

    calls: list[int] = []
    broken = model()
    broken.__class__ = Recording
    with pytest.raises(NonFiniteLossError) as caught:
        run(tmp_path, dataset(), model=broken)
    message = str(caught.value)
    assert message.startswith(f"iteration 4: loss_mask not finite on images {seen};")
    assert len(seen) == 2
    assert (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "model.safetensors").exists()


def test_gradients_are_clipped_when_asked(
    run: Run, dataset: MakeDataset, model: MakeModel, tmp_path: Path
) -> None:
    plain = Schedule(
        iterations=1, batch_size=2, learning_rate=1.0, momentum=0, weight_decay=0,
        warmup_iterations=0, clip_norm=1e-3,
    )  # fmt: skip
    after = run(tmp_path, dataset(), schedule=plain)
    before = dict(model().named_parameters())
    step = torch.stack([(after[name] - p).norm() for name, p in before.items()]).norm()
    assert step.item() == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize(("precision", "stops"), [("32-true", True), ("16-mixed", False)])
def test_the_loss_scaling_of_float16_skips_infinite_gradients(precision: str, stops: bool) -> None:
    training = MagicMock(schedule=Schedule(clip_norm=1.0))
    training.fabric.strategy.precision.precision = precision
    training.wrapped.return_value = {"loss": torch.tensor(1.0)}
    _Training.step(training, 1, [], [])
    (call,) = training.fabric.clip_gradients.call_args_list
    assert call.kwargs["error_if_nonfinite"] == stops


def _scripted(aps: list[float | None]) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    """An evaluation with given results that disturbs what it can, and the weights it has seen."""
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(model: BasisSegmenter) -> dict[str, float | None]:
        assert not any(module.training for module in model.modules())
        torch.rand(3)
        model.predict([np.full((64, 64, 3), 100, np.uint8)])
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"AP": aps[len(seen) - 1], "boundary_AP": 1.0}

    return evaluate, seen


def test_early_looks_keep_the_best_and_change_no_bit(
    whole: dict[str, Any], run: Run, dataset: MakeDataset, schedule: Schedule, tmp_path: Path
) -> None:
    looking = schedule.model_copy(update={"eval_every": 2, "log_every": 3})
    evaluate, seen = _scripted([5.0, None, 3.0])
    assert equal(run(tmp_path, dataset(), schedule=looking, evaluate=evaluate), whole["state"])
    lines = {int(line["iteration"]): line for line in log(tmp_path)}
    assert {i: line.get("AP") for i, line in lines.items()} == {2: 5.0, 3: None, 4: None, 6: 3.0}
    assert lines[4]["boundary_AP"] == 1.0
    best = tmp_path / "best.safetensors"
    assert equal(load_model(best).state_dict(), seen[0])
    assert (model_card(best)["iteration"], model_card(best)["AP"]) == (2, 5.0)


def test_a_training_that_goes_on_remembers_its_best(
    whole: dict[str, Any], run: Run, dataset: MakeDataset, schedule: Schedule, tmp_path: Path
) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"of an earlier training")
    looking = schedule.model_copy(update={"eval_every": 2})
    evaluate, seen = _scripted([4.0, 3.0, 3.5])
    stopped = dataset(5, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped, schedule=looking, evaluate=evaluate)
    often = schedule.model_copy(update={"eval_every": 3})  # no part of what the training is
    evaluate, later = _scripted([3.9])
    assert equal(run(tmp_path, dataset(), schedule=often, evaluate=evaluate), whole["state"])
    assert (len(seen), len(later)) == (1, 1)
    assert equal(load_model(tmp_path / "best.safetensors").state_dict(), seen[0])


@pytest.mark.parametrize(
    "name",
    [
        "b2inst-condinst-tiny",
        "b2inst-yolact-tiny",
        "bmask-rcnn-tiny",
        "ms-rcnn-tiny",
        "pointrend-tiny",
        "centermask-tiny",
        "fcis-tiny",
        "mnc-tiny",
        "masklab-tiny",
        "tensormask-tiny",
    ],
)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_look_changes_no_bit_of_any_family(
    name: str, recompute: bool, run: Run, dataset: MakeDataset, model: MakeModel, tmp_path: Path
) -> None:
    schedule = Schedule(iterations=2, batch_size=1, warmup_iterations=0)
    options = {"size": 64, "keep_size": True} if "yolact" in name else {}
    states = [
        run(
            tmp_path / str(every),
            dataset(),
            model=model(name, **options),
            schedule=schedule.model_copy(update={"eval_every": every}),
            evaluate=_scripted([1.0, 2.0])[0],
            recompute=recompute,
        )
        for every in (None, 1)
    ]
    assert equal(*states)
    assert not (tmp_path / "None/best.safetensors").exists()


def test_a_look_needs_an_evaluation(run: Run, dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"schedule\.eval_every.*pass a function as evaluate"):
        run(tmp_path, dataset(), schedule=Schedule(eval_every=5))


def test_bfloat16_trains_in_single_precision_weights(
    run: Run, dataset: MakeDataset, tmp_path: Path
) -> None:
    schedule = Schedule(iterations=1, batch_size=2, log_every=1)
    state = run(tmp_path, dataset(), schedule=schedule, precision="bf16-mixed")
    assert {t.dtype for t in state.values()} == {torch.float32, torch.int64}
    assert torch.tensor(log(tmp_path)[0]["total"]).isfinite()


def test_mixed_precision_does_not_round_boxes(
    run: Run, dataset: MakeDataset, model: MakeModel, tmp_path: Path
) -> None:
    trained, seen = model(), []
    trained.register_forward_pre_hook(lambda _, given: seen.extend(t.boxes for t in given[1]))
    schedule = Schedule(iterations=1, batch_size=2)
    run(tmp_path, dataset(), model=trained, schedule=schedule, precision="bf16-mixed")
    assert {boxes.dtype for boxes in seen} == {torch.float32}
    assert any((boxes != boxes.bfloat16()).any() for boxes in seen)


def test_computing_activations_again_changes_no_bit(
    whole: dict[str, Any], run: Run, dataset: MakeDataset, tmp_path: Path
) -> None:
    assert equal(run(tmp_path, dataset(), recompute=True), whole["state"])
    assert log(tmp_path) == log(whole["out"])


def test_on_one_device_batch_norm_is_not_synchronised(
    run: Run, dataset: MakeDataset, model: MakeModel, tmp_path: Path
) -> None:
    trained = model()
    run(tmp_path, dataset(), model=trained, schedule=Schedule(iterations=1, batch_size=1))
    norms = {
        type(m) for m in trained.modules() if isinstance(m, torch.nn.modules.batchnorm._NormBase)
    }
    assert norms == {torch.nn.BatchNorm2d}
