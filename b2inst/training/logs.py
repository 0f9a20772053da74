"""The log of a training, and Lightning's loggers by name."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightning.fabric.loggers.logger import Logger

LoggerName = Literal["tensorboard", "csv", "wandb"]


class LoggerError(ImportError):
    """A logger whose package is not installed; the message has the command that installs it."""


def check_logger(name: LoggerName) -> None:
    """Raise LoggerError if a logger's package is not installed."""
    if name != "csv" and find_spec(name) is None:
        raise LoggerError(f"logger {name}: not installed; pip install {name}")


def create_logger(name: LoggerName, out: Path) -> Logger:
    """Create a logger that writes into a run's folder, or to Weights & Biases under its name."""
    check_logger(name)
    if name == "wandb":
        from lightning.pytorch.loggers.wandb import WandbLogger

        project = os.environ.get("WANDB_PROJECT", "b2inst")
        return WandbLogger(name=out.name, save_dir=out, project=project)
    from lightning.fabric.loggers.csv_logs import CSVLogger
    from lightning.fabric.loggers.tensorboard import TensorBoardLogger

    return CSVLogger(out, name) if name == "csv" else TensorBoardLogger(out, name="", version="")


def _iteration(line: str) -> float:
    """Of a line of the log; infinite if it is cut off, as the last may be, or damaged."""
    try:
        return float(json.loads(line)["iteration"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


class Log:
    """JSON lines, without those after ``start``, where training resumes; and a logger."""

    def __init__(self, out: Path, start: int, logger: Logger | None) -> None:
        path = out / "log.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        kept = [line for line in text.splitlines(keepends=True) if _iteration(line) <= start]
        earlier = json.loads(kept[-1])["seconds"] if kept else 0.0
        self._began = time.perf_counter() - earlier
        path.write_text("".join(kept), encoding="utf-8")
        self._file, self._logger = path.open("a", encoding="utf-8"), logger

    def write(self, iteration: int, rate: float, values: Mapping[str, float]) -> None:
        """Add a line, with the seconds since the training began."""
        seconds = round(time.perf_counter() - self._began, 2)
        record = {"iteration": iteration, "lr": rate, "seconds": seconds, **values}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._logger:
            self._logger.log_metrics({"lr": rate, **values}, iteration)
            self._logger.save()  # what is not written is lost with a process that is killed

    def close(self) -> None:
        """Close file and logger."""
        self._file.close()
        if self._logger:
            self._logger.finalize("success")
