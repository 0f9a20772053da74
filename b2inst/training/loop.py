"""The training loop."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

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
from b2inst.training.norms import synchronise_norms
from b2inst.training.recompute import recompute_activations, recompute_normalised
from b2inst.training.schedule import Schedule
from b2inst.weights import save_model


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
    tensorboard: bool = False,
    recompute: bool = False,
) -> None:
    """Train a model, or go on where an interrupted training stopped.

    Model, optimiser, schedule, random state and the order of the data continue exactly. Processes
    that torchrun or srun started together share the batches; the first reads and writes ``out``.

    Args:
        out: folder of ``log.jsonl`` (a JSON object a line: iteration, lr, seconds, losses),
            ``checkpoint.pt`` and, in the end, ``model.safetensors``.
        device: "auto", "cpu", "cuda".
        precision: of Lightning Fabric: "32-true", "bf16-mixed", "16-mixed".
        num_workers: processes that load data.
        tensorboard: also write TensorBoard events into ``out``.
        recompute: keep fewer activations and compute them again, see ``recompute_activations``.

    Raises:
        NonFiniteLossError: with the last good checkpoint kept.
        CheckpointError: a checkpoint of another model, or one that cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint.
    """
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
    facts = {"recipe": _plain(model.recipe), "schedule": _plain(schedule.model_dump())}
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

    log = _Log(out, start, tensorboard) if fabric.is_global_zero else None
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
            if done % schedule.log_every == 0 or done == schedule.iterations:
                mean = mean_over_devices(torch.stack([total, *losses.values()])).tolist()
                if log:
                    values = dict(zip(losses, mean[1:], strict=True))
                    log.write(done, rate, time.perf_counter() - began, mean[0], values)
                bar.set_postfix(loss=f"{mean[0]:.3f}")
            if done % schedule.checkpoint_every == 0 and done < schedule.iterations:
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

    def __init__(self, out: Path, start: int, tensorboard: bool) -> None:
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
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out))

    def write(
        self, iteration: int, rate: float, seconds: float, total: float, losses: dict[str, float]
    ) -> None:
        record = {"iteration": iteration, "lr": rate, "seconds": round(self._seconds + seconds, 2)}
        record |= {"total": total, **losses}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._writer:
            for name, value in (("total", total), *losses.items()):
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        self._file.close()
        if self._writer:
            self._writer.close()
