"""What lets an interrupted training resume exactly."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import torch

from b2inst.ops.distributed import gathered

if TYPE_CHECKING:
    from lightning.fabric import Fabric


_CONTENT = {"iteration", "random", "precision", "model", "optimizer", "scheduler"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or used; the message names a remedy."""


@contextmanager
def interruption() -> Iterator[list[int]]:
    """Context in which Ctrl-C and SIGTERM are only added to the list that it gives.

    A second Ctrl-C interrupts at once; a second SIGTERM does not, since schedulers and torchrun
    both send one.
    """
    signals: list[int] = []

    def note(number: int, frame: object) -> None:
        if signals and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms on a CPU; on a GPU, RoIAlign has no deterministic gradient.

    Otherwise the gradient of indexing is summed in the order in which threads finish.
    """
    debugging: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), debugging.fill_uninitialized_memory
    if device.type == "cpu":
        torch.set_deterministic_debug_mode("warn")
        debugging.fill_uninitialized_memory = False  # only for debugging, and slow
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        debugging.fill_uninitialized_memory = before[1]


def random_state(fabric: Fabric) -> dict[str, Any]:
    """Collect the random states of all processes on rank 0, and the gradient scaler."""
    own = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {"random": gathered(own), "precision": fabric.strategy.precision.state_dict()}


def restore_random_state(fabric: Fabric, state: dict[str, Any]) -> None:
    """Restore ``random_state``; if there are more processes than before, some share a state."""
    own = state["random"][fabric.global_rank % len(state["random"])]
    torch.set_rng_state(own["cpu"])
    if fabric.device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], fabric.device)
    fabric.strategy.precision.load_state_dict(state["precision"])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the previous one is replaced once the new one is complete."""
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(state, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: checkpoint could not be written ({error}); free disk space and rerun to "
            "resume from the previous checkpoint"
        ) from error


def load_checkpoint(path: Path, **facts: dict[str, Any]) -> Any:
    """Read a checkpoint, which must have these facts of the training."""
    try:
        with ZipFile(path) as archive:  # PyTorch does not look at the checksums
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = {name: state.get(name) for name in facts}
        if lacking := _CONTENT - state.keys():
            raise ValueError(f"it lacks {min(lacking)}")
    except Exception as error:  # damaged files cause errors of any type
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: unreadable checkpoint ({reason}); delete it to restart training"
        ) from error
    for name, own in facts.items():
        if known[name] != own:
            what = "model" if name == "recipe" else name
            raise CheckpointError(
                f"{path}: checkpoint of another {what} ({known[name]}, not {own}); train into "
                "another folder or delete it"
            )
    return state
