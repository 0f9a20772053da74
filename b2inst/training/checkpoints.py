"""Checkpoints, from which an interrupted training resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from b2inst.ops.distributed import gathered

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or used; the message names a remedy."""


def random_state(fabric: Fabric) -> dict[str, Any]:
    """Collect the random states of all processes and the state of the gradient scaler.

    All processes must call it together.

    Returns:
        On rank 0 what :func:`restore_random_state` takes, to be saved in the checkpoint.
    """
    own = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {"random": gathered(own), "precision": fabric.strategy.precision.state_dict()}


def restore_random_state(fabric: Fabric, state: dict[str, Any]) -> None:
    """Restore what :func:`random_state` has collected.

    Args:
        fabric: Fabric of this process. If there are more processes than before, some share their
            initial random state.
        state: Content of the checkpoint.
    """
    own = state["random"][fabric.global_rank % len(state["random"])]
    torch.set_rng_state(own["cpu"])
    if fabric.device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], fabric.device)
    if state["precision"]:
        fabric.strategy.precision.load_state_dict(state["precision"])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the previous one is replaced once the new one is complete.

    Raises:
        CheckpointError: The disk is full or the folder is not writable.
    """
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


def load_checkpoint(path: Path, *, recipe: dict[str, Any], schedule: dict[str, Any]) -> Any:
    """Read a checkpoint of the given model and schedule.

    Raises:
        CheckpointError: The checkpoint is damaged, or of another model or schedule.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"holds a {type(state).__name__}")
    except Exception as error:  # damaged files cause errors of any type
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: unreadable checkpoint ({reason}); delete it to restart training"
        ) from error
    for key, own, name in (("recipe", recipe, "model"), ("schedule", schedule, "schedule")):
        if state.get(key) != own:
            raise CheckpointError(
                f"{path}: checkpoint of another {name} ({state.get(key)}, not {own}); train into "
                "another folder or delete it"
            )
    return state
