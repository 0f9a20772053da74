"""What only a GPU can tell, in twelve minutes of one: tests, speed, memory, a seed of Table 1.

    make gpu                                            # or: python3 experiments/gpu.py
    python3 experiments/gpu.py --tiny --out /tmp/gpu    # each step in small, on a CPU

The most important steps come first. Each is a process with its own time limit and writes a file
with provenance to ``results/gpu/``. Rerun to resume: steps whose file exists are skipped. Table 1
comes last and takes the time that is left; its runs resume, too.

On a machine without a network that has PyTorch but not all that b2inst needs, carry the rest:

    names='pycocotools|faster-coco-eval|pydantic|pydantic-core|typing-inspection|annotated-types'
    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \\
        $(grep -oE "^($names)==[^ ]+" requirements.lock)
    python3 -m pip install --no-index --no-deps --target site wheels/*.whl    # there
    PYTHONPATH=$PWD:$PWD/site python3 experiments/gpu.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from training_cost import CASES, Case, measure

from b2inst.benchmark import benchmark, composed_samples
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import read_json, write_json

_ROOT = Path(__file__).parents[1]

#: Models of a benchmark, by the size that they look at images.
SPEED = {
    (800, 1333): ("blendmask-r50", "b2inst-blendmask-r50", "condinst-r50", "maskrcnn-r50"),
    (550, 550): ("yolact-r50", "b2inst-yolact-r50"),
}
TRAINING = [
    Case(model, *size, batch=batch, precision=precision)
    for batch in (2, 8)
    for precision in ("32-true", "bf16-mixed")
    for size, models in SPEED.items()
    for model in models
]


def tests(tiny: bool) -> dict[str, Any]:
    """The tests that need a GPU; on a CPU they are passed over."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "tests/test_cuda.py"]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    typer.echo(done.stdout)
    if done.returncode:
        raise typer.Exit(1)
    return {"summary": done.stdout.splitlines()[-1]}


def speed(tiny: bool, *, precision: str = "float32", tf32: bool = False) -> dict[str, Any]:
    """``b2inst bench`` at each size."""
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    samples = composed_samples(60)
    sizes = {(64, 96): ("blendmask-tiny", "b2inst-blendmask-tiny")} if tiny else SPEED
    found = {
        "x".join(map(str, size)): benchmark(
            models,
            size=size,
            samples=samples[: 2 if tiny else None],
            detections=5 if tiny else 100,
            device="cpu" if tiny else "cuda",
            precision=precision,
        ).to_json()
        for size, models in sizes.items()
    }
    return {"tf32": tf32, "sizes": found}


def training(tiny: bool, cases: tuple[Case, ...] | list[Case]) -> dict[str, Any]:
    """Seconds and memory of training steps; TF32 in convolutions, as PyTorch has it by default."""
    if tiny:
        cases = [replace(case, model="blendmask-tiny", height=64, width=64) for case in cases[:2]]
    return {"cases": [asdict(c) | measure(c, "cpu" if tiny else "cuda") for c in cases]}


def table(tiny: bool, profile: str, data: str | None) -> dict[str, Any]:
    """A seed of Table 1."""
    code = "from b2inst.cli import app; app()"
    where = ["--data", data] if data else []
    device = "cpu" if tiny else "cuda"
    command = ["table", "table1", "--profile", profile, "--seeds", "0", "--no-notebook", *where]
    subprocess.run([sys.executable, "-c", code, *command, "--device", device], check=True)
    content: dict[str, Any] = read_json(
        Workspace.here().results / "local" / profile / "table1" / "table1.json"
    )
    return content


#: What each step does, and its seconds at most.
STEPS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any], int]] = {
    "tests": (tests, {}, 150),
    "bench-float32": (speed, {}, 90),
    "bench-bfloat16": (speed, {"precision": "bfloat16"}, 90),
    "training": (training, {"cases": TRAINING}, 150),
    "bench-tf32": (speed, {"tf32": True}, 90),
    "training_cost": (training, {"cases": CASES}, 150),
}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = _ROOT / "results" / "gpu",
    minutes: Annotated[float, typer.Option(help="Of all steps together.")] = 12,
    tiny: Annotated[bool, typer.Option(help="Each step in small, on a CPU.")] = False,
    profile: Annotated[str, typer.Option(help="Of Table 1; nuclei needs --data.")] = "small",
    data: Annotated[str | None, typer.Option(help="COCO-format folder for Table 1.")] = None,
    step: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Take the steps that are missing, and say which could not be finished."""
    end = time.monotonic() + 60 * minutes
    last = f"table1-{profile}"
    steps = STEPS | {last: (table, {"profile": profile, "data": data}, 3600)}
    if step is not None:
        provenance = describe_machine() | {"began": now()}  # before someone edits the checkout
        work, options, _ = steps[step]
        begin = time.monotonic()
        content = work(tiny, **options)
        provenance["wall_seconds"] = round(time.monotonic() - begin, 1)
        write_json(out / f"{step}.json", content | {"gpu_provenance": provenance})
        return
    out.mkdir(parents=True, exist_ok=True)
    given = ["--out", str(out), "--profile", profile, *(["--data", data] if data else [])]
    for name, (_, _, limit) in steps.items():
        if not (out / f"{name}.json").is_file():
            most = min(limit, end - time.monotonic())
            typer.echo(f"{name}: {most:.0f} s at most")
            command = [sys.executable, __file__, *given, "--step", name]
            _within(most, command + (["--tiny"] if tiny else []))
    missing = [name for name in steps if not (out / f"{name}.json").is_file()]
    typer.echo(f"not finished: {', '.join(missing)}" if missing else f"{out}: all there")
    if (out / "training_cost.json").is_file():
        typer.echo(columns(read_json(out / "training_cost.json")["cases"]))
    if set(missing) - {last}:
        raise typer.Exit(1)


def columns(cases: list[dict[str, Any]]) -> str:
    """The columns of docs/scaling.md that are a GPU's."""
    lines = ["| model | pixels | images/s | memory of a step, MB |", "|---|---|---|---|"]
    for case in cases:
        options = ["recompute"] if case["recompute"] else []
        options += [case["precision"]] if case["precision"] != "32-true" else []
        name = " ".join([f"`{case['model']}` ×{case['batch']}", *options])
        rate = case["batch"] / case["wall_seconds"]
        pixels = f"{case['height']}×{case['width']}"
        lines.append(f"| {name} | {pixels} | {rate:.1f} | {case['step_mb']} |")
    return "\n".join(lines)


def _within(seconds: float, command: list[str]) -> None:
    """Run a command, interrupt it after its time, and end it and its children if it stays."""
    if seconds < 5:
        return
    process = subprocess.Popen(command, start_new_session=True)
    for patience, sign in ((seconds, signal.SIGINT), (20, signal.SIGKILL)):
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, sign)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            raise


if __name__ == "__main__":
    typer.run(main)
