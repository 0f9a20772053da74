"""Checkpoints: all that an interrupted training needs to go on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or used; the message says what to do."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: the earlier checkpoint stays until the new one is whole.

    Raises:
        CheckpointError: when the disk is full or the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(state, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: checkpoint could not be written ({error}); free disk space and run again, "
            "training goes on from the checkpoint before"
        ) from error


def load_checkpoint(path: Path, *, recipe: dict[str, Any], schedule: dict[str, Any]) -> Any:
    """Read a checkpoint back, refusing one of another model or schedule.

    Raises:
        CheckpointError: damaged, or of another architecture or schedule.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"holds a {type(state).__name__}")
    except Exception as error:  # a damaged file leads the unpickler to errors of any kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: unreadable checkpoint ({reason}); delete it to train anew"
        ) from error
    for what, mine in (("recipe", recipe), ("schedule", schedule)):
        theirs = state.get(what)
        if theirs != mine:
            raise CheckpointError(
                f"{path}: checkpoint of another {'model' if what == 'recipe' else what} "
                f"({theirs}, not {mine}); train into another folder or delete it"
            )
    return state
