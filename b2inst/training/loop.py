"""The training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from b2inst.data import CocoDataset, train_loader
from b2inst.models import Segmenter
from b2inst.ops.distributed import from_first, gathered, mean_over_devices, on_any_device
from b2inst.structures import Targets
from b2inst.training.checkpoints import load_checkpoint, save_checkpoint
from b2inst.training.determinism import deterministic
from b2inst.training.devices import launch
from b2inst.training.interruption import Interruption
from b2inst.training.loggers import LoggerName, create_logger
from b2inst.training.norms import synchronise_norms
from b2inst.training.recompute import recompute_activations, recompute_normalised
from b2inst.training.schedule import Schedule
from b2inst.weights import save_model
from b2inst.weights.files import model_card

if TYPE_CHECKING:
    from lightning.fabric.loggers.logger import Logger


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
    evaluate: Callable[[Segmenter], Mapping[str, float | None]] | None = None,
) -> None:
    """Train a model, or go on where an interrupted training stopped.

    Model, optimiser, schedule, random state and the order of the data continue exactly. Processes
    that torchrun or srun started together share the batches; the first reads and writes ``out``.

    Args:
        out: folder of ``log.jsonl`` (a JSON object a line: iteration, lr, seconds, losses),
            ``checkpoint.pt`` and, in the end, ``model.safetensors``; with ``evaluate`` also
            ``best.safetensors``, whose card (``weights.files.model_card``) has its ``iteration``
            and metrics.
        device: "auto", "cpu", "cuda".
        precision: of Lightning Fabric: "32-true", "bf16-mixed", "16-mixed".
        num_workers: processes that load data.
        logger: of Lightning, or the name of one, that gets what the log gets.
        recompute: keep fewer activations and compute them again, see ``recompute_activations``.
        evaluate: metrics in percent of the model, in evaluation mode. Called by all processes
            every ``schedule.eval_every`` iterations and after the last; it changes nothing in
            the training. The weights with the highest "AP" are kept as the best.

    Raises:
        ValueError: ``schedule.eval_every`` without ``evaluate``.
        LoggerError: the logger's package is not installed.
        NonFiniteLossError: with the last good checkpoint kept.
        CheckpointError: a checkpoint of another model, or one that cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint.
    """
    if schedule.eval_every and evaluate is None:
        raise ValueError("schedule.eval_every: says when to evaluate; give evaluate, which does it")
    if isinstance(logger, str):
        logger = create_logger(logger, out)
    fabric = launch(device=device, precision=precision)
    if fabric.is_global_zero:
        out.mkdir(parents=True, exist_ok=True)
    fabric.seed_everything(seed, verbose=False)
    if fabric.world_size > 1:
        synchronise_norms(model, fabric.device)
    model.to(memory_format=torch.channels_last)  # quicker convolutions
    if recompute:
        recompute_activations(model)
    else:
        recompute_normalised(model)

    optimizer, scheduler = schedule.optimizer_for(model, fused=precision != "16-mixed")
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()

    checkpoint = out / "checkpoint.pt"
    facts = {
        "recipe": _plain(model.recipe),
        "schedule": _plain(schedule.model_dump(exclude={"eval_every"})),
    }
    start = 0
    state = from_first(
        lambda: load_checkpoint(checkpoint, **facts) if checkpoint.exists() else None
    )
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        generators = state["rng"].view(-1, len(torch.get_rng_state()))
        # A copy, since it is read from its memory's first byte.
        torch.set_rng_state(generators[fabric.global_rank % len(generators)].clone())
        start = state["iteration"]

    def save(iteration: int) -> None:
        generators = gathered(torch.get_rng_state())
        if fabric.is_global_zero:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "rng": torch.stack(generators),
                "iteration": iteration,
            }
            save_checkpoint(checkpoint, state | facts)
        fabric.barrier()

    best = out / "best.safetensors"
    if fabric.is_global_zero and start == 0:
        best.unlink(missing_ok=True)  # of a training that begins anew

    def look(iteration: int) -> dict[str, float | None]:
        assert evaluate is not None
        wrapped.eval()
        with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
            metrics = dict(evaluate(model))
        if fabric.is_global_zero:
            ap = metrics["AP"]
            # Remembered in the file itself, so that the two cannot differ after a power cut.
            if ap is not None and (not best.exists() or ap > model_card(best)["AP"]):
                notes = {"iteration": iteration, **metrics}
                ids = dataset.index.category_ids
                save_model(model, best, category_ids=ids, notes=notes)
        wrapped.train()
        return metrics

    log = _Log(out, start, logger) if fabric.is_global_zero else None
    loader = train_loader(
        dataset,
        batch_size=schedule.batch_size,
        aspect_grouping=schedule.aspect_grouping,
        seed=seed,
        start_iteration=start,
        num_workers=num_workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    batches = iter(loader)
    bar = tqdm(
        total=schedule.iterations,
        initial=start,
        disable=not (progress and fabric.is_global_zero),
        unit="it",
        mininterval=1,
        desc=out.name,
    )
    shown: dict[str, str] = {}  # beside the loss, the metrics of the last look
    began = time.perf_counter()
    with deterministic(fabric.device), Interruption() as interruption, bar:
        for iteration in range(start, schedule.iterations):
            images, targets = next(batches)
            targets = [target.to(fabric.device) for target in targets]
            losses: dict[str, Tensor] = wrapped(images, targets)
            total = torch.stack(list(losses.values())).sum()
            # All devices stop together, whichever has a bad loss or was signalled first.
            if mean_over_devices((~total.isfinite()).float()) > 0:
                raise _non_finite(iteration, total.item(), losses, targets)
            fabric.backward(total)
            if schedule.clip_norm is not None:
                fabric.clip_gradients(wrapped, optimizer, max_norm=schedule.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            rate = float(scheduler.get_last_lr()[0])
            scheduler.step()
            bar.update()

            done = iteration + 1
            last = done == schedule.iterations
            every = schedule.eval_every
            metrics = look(done) if every and (last or done % every == 0) else {}
            if last or metrics or done % schedule.log_every == 0:
                mean = mean_over_devices(torch.stack([total, *losses.values()])).tolist()
                if log:
                    values = dict(zip(losses, mean[1:], strict=True))
                    values |= {n: value for n, value in metrics.items() if value is not None}
                    log.write(done, rate, time.perf_counter() - began, mean[0], values)
                shown |= {n: f"{value:.1f}" for n, value in metrics.items() if value is not None}
                bar.set_postfix({"loss": f"{mean[0]:.3f}", **shown})
            if done % schedule.checkpoint_every == 0 and not last:
                save(done)
            if on_any_device(interruption.requested, fabric.device):
                save(done)
                raise KeyboardInterrupt(f"stopped after iteration {done}; run again to go on")
    if log:
        log.close()
        save_model(model.eval(), out / "model.safetensors", category_ids=dataset.index.category_ids)
        checkpoint.unlink(missing_ok=True)
    fabric.barrier()


def _non_finite(
    iteration: int, total: float, losses: dict[str, Tensor], targets: list[Targets]
) -> NonFiniteLossError:
    """The same error on all devices: of the first that has a bad loss."""
    values = {name: value.item() for name, value in losses.items()}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    ids = [target.image_id for target in targets]
    found = gathered(
        f"iteration {iteration}: {', '.join(bad) or 'the sum of losses'} not finite on images "
        f"{ids}; losses {values}. Look at these images' annotations, lower the learning rate or "
        "clip gradients (clip_norm); the last checkpoint is kept"
        if not math.isfinite(total)
        else None
    )
    return NonFiniteLossError(from_first(lambda: next(filter(None, found))))


def _plain(value: Any) -> Any:
    """As it comes back from JSON, so that tuples and lists compare equal."""
    return json.loads(json.dumps(value))


class _Log:
    """JSON lines, cut back to where training goes on, so that no iteration stands twice."""

    def __init__(self, out: Path, start: int, logger: Logger | None) -> None:
        path = out / "log.jsonl"
        kept: list[str] = []
        if path.exists() and start:
            # Without its line end, the last line was cut off with the training.
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line.rstrip() for line in lines if line.endswith("\n")]
            kept = [line for line in whole if json.loads(line)["iteration"] <= start]
        self._seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._logger = logger

    def write(
        self, iteration: int, rate: float, seconds: float, total: float, values: dict[str, float]
    ) -> None:
        record = {"iteration": iteration, "lr": rate, "seconds": round(self._seconds + seconds, 2)}
        values = {"total": total, **values}
        record |= values
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._logger:
            self._logger.log_metrics({"lr": rate, **values}, iteration)
            self._logger.save()  # what is not written is lost with a process that is killed

    def close(self) -> None:
        self._file.close()
        if self._logger:
            self._logger.finalize("success")
