"""The training loop."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from b2inst.data import CocoDataset, CocoIndex, train_loader
from b2inst.models import Segmenter
from b2inst.ops.distributed import from_rank_zero, gathered, mean_over_devices, on_any_device
from b2inst.structures import Targets
from b2inst.training.checkpoints import (
    deterministic,
    interruption,
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from b2inst.training.devices import launch, synchronise_norms
from b2inst.training.logs import Log, LoggerName, create_logger
from b2inst.training.recompute import recompute_activations, recompute_normalised
from b2inst.training.schedule import Schedule
from b2inst.weights import save_model
from b2inst.weights.files import model_card

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.loggers.logger import Logger

Evaluate: TypeAlias = Callable[[Segmenter], Mapping[str, float | None]]


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names the losses and the images."""


def train(
    model: Segmenter,
    dataset: CocoDataset,
    *,
    schedule: Schedule,
    seed: int,
    out: Path,
    device: str = "auto",
    precision: Any = "32-true",
    num_workers: int = 0,
    progress: bool = True,
    logger: LoggerName | Logger | None = None,
    recompute: bool = False,
    evaluate: Evaluate | None = None,
) -> None:
    """Train a model, or resume an interrupted training exactly.

    Model, optimiser, schedule, random states and the order of the data are restored. Processes that
    torchrun or srun started together share the batches; the first one reads and writes ``out``.

    Args:
        model: Model to train.
        dataset: Images and annotations to train on.
        schedule: Optimiser, learning rate, number of iterations, and intervals.
        seed: Seed of the data order and of all random numbers.
        out: Folder for ``log.jsonl`` (one JSON object a line: iteration, lr, seconds, losses),
            ``checkpoint.pt`` and finally ``model.safetensors``; with ``evaluate`` also for
            ``best.safetensors``, whose card has its ``iteration`` and metrics.
        device: "auto", "cpu" or "cuda".
        precision: Precision of Lightning Fabric: "32-true", "bf16-mixed" or "16-mixed".
        num_workers: Number of processes that load data.
        progress: Whether to show a progress bar.
        logger: Lightning logger, or the name of one, that gets what is written to the log.
        recompute: Whether to save memory by computing activations twice.
        evaluate: Function of the model in evaluation mode that returns metrics in percent. All
            processes call it every ``schedule.eval_every`` iterations and after the last one.
            The weights with the highest "AP" are kept as the best.

    Raises:
        ValueError: ``schedule.eval_every`` is set without ``evaluate``.
        LoggerError: The logger's package is not installed.
        NonFiniteLossError: A loss is NaN or infinite; the last checkpoint is kept.
        CheckpointError: The checkpoint belongs to another model, or cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM was received; a checkpoint was written.
    """
    if schedule.eval_every and evaluate is None:
        raise ValueError("schedule.eval_every is set; pass a function as evaluate")
    if isinstance(logger, str):
        logger = create_logger(logger, out)
    fabric = launch(device=device, precision=precision)
    first = fabric.is_global_zero
    if first:
        out.mkdir(parents=True, exist_ok=True)
    fabric.seed_everything(seed, verbose=False)
    if fabric.world_size > 1:
        synchronise_norms(model, fabric.device)
    model.to(memory_format=torch.channels_last)  # faster convolutions
    (recompute_activations if recompute else recompute_normalised)(model)

    training = _Training(fabric, model, schedule, dataset.index, out, evaluate)
    start = training.resume()
    batches = iter(  # before signals are caught, which the workers would inherit
        train_loader(
            dataset,
            batch_size=schedule.batch_size,
            aspect_grouping=schedule.aspect_grouping,
            seed=seed,
            start_iteration=start,
            num_workers=num_workers,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
    )
    log = Log(out, start, logger) if first else None
    bar = tqdm(
        range(start + 1, schedule.iterations + 1),
        total=schedule.iterations,
        initial=start,
        disable=not (progress and first),
        mininterval=1,
        desc=out.name,
    )
    shown: dict[str, float] = {}
    with deterministic(fabric.device), interruption() as signals, bar:
        for iteration, (images, targets) in zip(bar, batches, strict=False):
            shown |= training.iterate(iteration, images, targets, log)
            bar.set_postfix(shown, refresh=False)
            if on_any_device(bool(signals), fabric.device):
                training.save(iteration)
                raise KeyboardInterrupt(f"stopped after iteration {iteration}; rerun to resume")
    if log:
        log.close()
        training.finish()
    fabric.barrier()


class _Training:
    """State of a training: model, optimiser, schedule, and their files."""

    def __init__(
        self,
        fabric: Fabric,
        model: Segmenter,
        schedule: Schedule,
        index: CocoIndex,
        out: Path,
        look: Evaluate | None,
    ) -> None:
        self.fabric, self.model, self.schedule, self.out = fabric, model, schedule, out
        self.look, model.category_ids = look, index.category_ids
        fused = fabric.strategy.precision.precision != "16-mixed"
        optimizer, self.scheduler = schedule.optimizer_for(model, fused=fused)
        self.wrapped, self.optimizer = fabric.setup(model, optimizer)
        self.wrapped.train()
        self.resumed = {"model": model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        self.checkpoint, self.best = out / "checkpoint.pt", out / "best.safetensors"
        facts = {"recipe": model.recipe, "schedule": schedule.model_dump(exclude={"eval_every"})}
        self.facts = json.loads(json.dumps(facts))  # with lists for tuples, to be compared

    def resume(self) -> int:
        """Restore the checkpoint, if there is one; returns the number of completed iterations."""
        if not from_rank_zero(self.checkpoint.exists):
            if self.fabric.is_global_zero:
                self.best.unlink(missing_ok=True)  # of an earlier training
            return 0
        state = from_rank_zero(lambda: load_checkpoint(self.checkpoint, **self.facts))
        for name, part in self.resumed.items():
            part.load_state_dict(state[name])
        restore_random_state(self.fabric, state)
        return int(state["iteration"])

    def save(self, iteration: int) -> None:
        """Write a checkpoint."""
        state = {"iteration": iteration, **random_state(self.fabric), **self.facts}
        if self.fabric.is_global_zero:
            state |= {name: part.state_dict() for name, part in self.resumed.items()}
            save_checkpoint(self.checkpoint, state)
        self.fabric.barrier()

    def iterate(
        self, iteration: int, images: list[Tensor], targets: list[Targets], log: Log | None
    ) -> dict[str, float]:
        """Do an iteration; evaluate, log and save when it is time. Returns what is logged."""
        rate, plan = float(self.scheduler.get_last_lr()[0]), self.schedule
        losses = self.step(iteration, images, targets)
        last = iteration == plan.iterations
        metrics: dict[str, float] = {}
        shown: dict[str, float] = {}
        if self.look and plan.eval_every and (last or iteration % plan.eval_every == 0):
            metrics = self.evaluate(iteration, self.look)
        if last or metrics or iteration % plan.log_every == 0:
            mean = mean_over_devices(torch.stack(list(losses.values()))).tolist()
            values = dict(zip(losses, mean, strict=True)) | metrics
            if log:
                log.write(iteration, rate, values)
            shown = {"loss": values["total"]}
            shown |= {f"{name} (%)": value for name, value in metrics.items()}
        if iteration % plan.checkpoint_every == 0 and not last:
            self.save(iteration)
        return shown

    def step(
        self, iteration: int, images: list[Tensor], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Update the weights; returns the losses, their sum as "total"."""
        targets = [target.to(self.fabric.device) for target in targets]
        losses: dict[str, Tensor] = self.wrapped(images, targets)
        total = torch.stack(list(losses.values())).sum()
        # All devices stop together, whichever has a bad loss or was signalled first.
        if mean_over_devices((~total.isfinite()).float()) > 0:
            raise _non_finite(iteration, total.item(), losses, targets)
        self.fabric.backward(total)
        if (norm := self.schedule.clip_norm) is not None:
            # The loss scaling of float16 skips a step whose gradients are infinite.
            scaled = self.fabric.strategy.precision.precision == "16-mixed"
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=norm, error_if_nonfinite=not scaled
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        return {"total": total, **losses}

    def evaluate(self, iteration: int, evaluate: Evaluate) -> dict[str, float]:
        """Evaluate without changing the training; keeps the best weights."""
        self.wrapped.eval()
        on_gpu = self.fabric.device.type == "cuda"
        with torch.random.fork_rng([self.fabric.device] if on_gpu else []):
            found = evaluate(self.model)
        if self.fabric.is_global_zero and found["AP"] is not None:
            # The AP is in the file itself, so that the two agree even after a power cut.
            before = model_card(self.best)["AP"] if self.best.exists() else -math.inf
            if found["AP"] > before:
                notes = {"iteration": iteration, **found}
                save_model(self.model, self.best, notes=notes)
        self.wrapped.train()
        return {name: value for name, value in found.items() if value is not None}

    def finish(self) -> None:
        """Save the final weights in place of the checkpoint."""
        save_model(self.model.eval(), self.out / "model.safetensors")
        self.checkpoint.unlink(missing_ok=True)


def _non_finite(
    iteration: int, total: float, losses: dict[str, Tensor], targets: list[Targets]
) -> NonFiniteLossError:
    """The same error on all devices: of the first that has a bad loss."""
    message = None
    if not math.isfinite(total):
        values = {name: value.item() for name, value in losses.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        message = (
            f"iteration {iteration}: {', '.join(bad) or 'the sum of losses'} not finite on images "
            f"{[target.image_id for target in targets]}; losses {values}. Look at these images' "
            "annotations, lower the learning rate or clip gradients (clip_norm); the last "
            "checkpoint is kept"
        )
    found = gathered(message)
    return NonFiniteLossError(from_rank_zero(lambda: next(filter(None, found))))
