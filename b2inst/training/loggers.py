"""Loggers of Lightning, by name."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightning.fabric.loggers.logger import Logger

LoggerName = Literal["tensorboard", "csv", "wandb"]


class LoggerError(ImportError):
    """A logger whose package is not installed; the message has the command that installs it."""


def check_logger(name: LoggerName) -> None:
    """See that a logger's package is there.

    Raises:
        LoggerError: it is not.
    """
    if name != "csv" and find_spec(name) is None:
        raise LoggerError(f"logger {name}: not installed; pip install {name}")


def create_logger(name: LoggerName, out: Path) -> Logger:
    """A logger that writes into a run's folder.

    Args:
        name: "tensorboard", whose events lie in ``out``; "csv", a ``metrics.csv`` in
            ``out/csv/version_N`` for each start; "wandb", named as the folder, in the project
            that ``WANDB_PROJECT`` names ("b2inst").

    Raises:
        LoggerError: its package is not installed.
    """
    check_logger(name)
    if name == "wandb":
        from lightning.pytorch.loggers.wandb import WandbLogger

        project = os.environ.get("WANDB_PROJECT", "b2inst")
        return WandbLogger(name=out.name, save_dir=out, project=project)
    if name == "csv":
        from lightning.fabric.loggers.csv_logs import CSVLogger

        return CSVLogger(out, name="csv")
    from lightning.fabric.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(out, name="", version="")
