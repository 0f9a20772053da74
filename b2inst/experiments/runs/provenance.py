"""Where a number comes from: code, data, machine and cost."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import b2inst
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.store import Run, write_json

_LIBRARIES = (
    "b2inst",
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "pycocotools",
    "faster-coco-eval",
)


@contextmanager
def recorded(run: Run, step: str, facts: dict[str, Any]) -> Iterator[None]:
    """Write down what a step of a run used and cost, also when it fails or is interrupted.

    The run's code and machine are those that began it; each step adds up its own time.

    Args:
        step: "train", "predict test", "evaluate test".
        facts: further entries of the provenance.
    """
    content = {**describe_machine(), **run.provenance(), **facts}
    costs = content.setdefault("steps", {}).setdefault(
        step, {"started": now(), "sessions": 0, "wall_seconds": 0.0, "cpu_seconds": 0.0}
    )
    costs["sessions"] += 1
    write_json(run.provenance_path, content)
    begin, before = time.monotonic(), costs["wall_seconds"]
    cpu_begin, cpu_before = time.process_time(), costs.get("cpu_seconds", 0.0)
    try:
        yield
    finally:
        costs["wall_seconds"] = round(before + time.monotonic() - begin, 2)
        costs["cpu_seconds"] = round(cpu_before + time.process_time() - cpu_begin, 2)
        costs["finished"] = now()
        costs["peak_memory_mb"] = peak_memory_mb()
        costs["peak_gpu_memory_mb"] = peak_gpu_memory_mb()
        write_json(run.provenance_path, content)


def describe_machine() -> dict[str, Any]:
    """Code and machine of this process.

    ``dirty`` tells whether files that decide numbers (the package, the specs) differ from the
    commit; None where the package does not lie in its own git checkout.
    """
    import torch

    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "code": {
            "training": code_version.TRAINING,
            "evaluation": code_version.EVALUATION,
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def git_state(package: Path = Path(b2inst.__file__).parent) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout the package lies in; (None, None) without one."""
    # An installed package may lie inside a checkout of something else: ask whether it is tracked.
    if _git(package, "ls-files", "--error-unmatch", "structures.py") is None:
        return None, None
    commit = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".", "../experiments")
    return commit, None if changes is None else bool(changes)


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MB (10⁶ bytes)."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def peak_gpu_memory_mb() -> float | None:
    """Largest memory held on the GPU by tensors so far, in MB; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_allocated() / 1e6, 1)


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def cpu_name() -> str:
    """The processor's model name, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
