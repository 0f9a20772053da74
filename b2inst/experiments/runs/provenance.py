"""Where a number comes from: code, data, machine and cost."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

import b2inst
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.store import Run, write_json

_LIBRARIES = ("torch", "torchvision", "lightning", "numpy", "pycocotools", "faster-coco-eval")


@contextmanager
def recorded(run: Run, step: str, facts: dict[str, Any]) -> Iterator[None]:
    """Record what all sessions of a step ("predict test") used and cost, also if it fails."""
    content = {**describe_machine(), **run.provenance(), **facts}
    first = {"started": now(), "sessions": 0, "wall_seconds": 0.0, "cpu_seconds": 0.0}
    costs = content.setdefault("steps", {}).setdefault(step, first)
    costs["sessions"] += 1
    write_json(run.provenance_path, content)
    wall, cpu = time.monotonic(), time.process_time()
    try:
        yield
    finally:
        on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        costs["wall_seconds"] = round(costs["wall_seconds"] + time.monotonic() - wall, 2)
        costs["cpu_seconds"] = round(costs["cpu_seconds"] + time.process_time() - cpu, 2)
        costs["finished"] = now()
        costs["peak_memory_mb"] = peak_memory_mb()
        costs["peak_gpu_memory_mb"] = on_gpu and round(on_gpu / 1e6, 1)
        write_json(run.provenance_path, content)


def describe_machine() -> dict[str, Any]:
    """Describe the code and the machine of this process."""
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "code": {"training": code_version.TRAINING, "evaluation": code_version.EVALUATION},
        "versions": {
            "python": platform.python_version(),
            **{p: d.version for p in ("b2inst", *_LIBRARIES) for d in distributions(name=p)},
        },
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def git_state(package: Path = Path(b2inst.__file__).parent) -> tuple[str | None, bool | None]:
    """Return the commit of the package's checkout, and whether package or specs differ from it."""
    # An installed package may lie inside a checkout of something else: ask whether it is tracked.
    if _git(package, "ls-files", "--error-unmatch", "structures.py") is None:
        return None, None
    changes = _git(package, "status", "--porcelain", "--", ".", "../experiments")
    return _git(package, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process so far, in 10⁶ bytes; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def cpu_name() -> str:
    """Return the processor's model name, if the system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text(errors="replace").splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
