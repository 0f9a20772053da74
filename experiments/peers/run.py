"""Train and evaluate users' alternatives on nuclei, each in a Python environment of its own.

    .venv/bin/python experiments/peers/run.py stardist DATA --cpu-minutes 6
    .venv/bin/python experiments/peers/run.py yolo DATA --cpu-minutes 60 --name yolo-640-60 \\
        -- --image-size 640

DATA is the folder that ``b2inst data nuclei`` writes. What follows ``--`` goes to the training of
the peer's script. Writes ``results/nuclei/peers/records/<name>.json``; models and predictions stay
in ``runs/peers/<name>/``. A run that is done is not done again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import write_json

ENVS = Path.home() / ".cache/b2inst-peers"

#: Script of each peer and what is installed in its environment.
PEERS = {
    "stardist": (
        "stardist_nuclei.py",
        ("stardist==0.9.2", "tensorflow-cpu==2.15.1", "numpy==1.26.4", "pycocotools==2.0.11"),
    ),
    "yolo": (
        "yolo_nuclei.py",
        ("ultralytics==8.4.190", "torch==2.14.1", "torchvision==0.29.1", "pycocotools==2.0.11"),
    ),
}


def main(
    peer: Annotated[str, typer.Argument(help=" or ".join(PEERS))],
    data: Annotated[Path, typer.Argument(help="Folder of `b2inst data nuclei`.")],
    options: Annotated[list[str] | None, typer.Argument(help="For the peer's script.")] = None,
    cpu_minutes: Annotated[float, typer.Option(help="Of training, all threads together.")] = 6,
    threads: Annotated[int, typer.Option(help="For training; prediction has one.")] = 1,
    name: Annotated[str, typer.Option(help="Of the result (default: peer and minutes).")] = "",
    envs: Annotated[Path, typer.Option(help="Of the environments, made where missing.")] = ENVS,
    rerun: Annotated[bool, typer.Option("--rerun", help="Do it again.")] = False,
) -> None:
    """Train, predict the test split, and write down what it took."""
    if peer not in PEERS:
        raise typer.BadParameter(f"{peer}: no such peer; there are {', '.join(PEERS)}")
    if not (data / "annotations/instances_test.json").is_file():
        raise typer.BadParameter(f"{data}: no nuclei; run `b2inst data nuclei {data}` first")
    workspace, name = Workspace.here(), name or f"{peer}-{cpu_minutes:g}"
    result, folder = (
        workspace.published / f"nuclei/peers/records/{name}.json",
        workspace.runs / "peers" / name,
    )
    if rerun:
        result.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    if result.is_file():
        typer.echo(f"{workspace.shown(result)}: done already; --rerun does it again")
        return
    folder.mkdir(parents=True, exist_ok=True)
    script, packages = PEERS[peer]
    python = environment(envs / peer, packages)
    told = {"train": ["--cpu-minutes", str(cpu_minutes), *(options or ())], "predict": []}
    records = {}
    for stage, arguments in told.items():
        file = folder / f"{stage}.json"
        if not file.is_file():
            command = [python, Path(__file__).parent / script, stage, data, folder, *arguments]
            _run(command, folder / f"{stage}.txt", threads=threads if stage == "train" else 1)
        records |= json.loads(file.read_text())
    content = {
        "name": name,
        "peer": peer,
        "budget_cpu_minutes": cpu_minutes,
        "training_threads": threads,
        **records,
        "predictions": workspace.shown(folder / "test.json"),
        "tuned_predictions": workspace.shown(folder / "test.tuned.json"),
        "packages": packages,
        "options": options or [],
        "provenance": _provenance(),
    }
    write_json(result, content)
    typer.echo(f"{workspace.shown(result)}: {records['training_cpu_minutes']:.2f} CPU minutes")


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of an environment with these packages."""
    python, installed = folder / "bin/python", folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != "\n".join(packages):
        typer.echo(f"{folder}: installing {', '.join(packages)}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        installed.write_text("\n".join(packages))
    return python


def _run(command: list[str | Path], log: Path, *, threads: int) -> None:
    """Run a stage of a peer's script; what it prints goes to ``log``."""
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "YOLO_CONFIG_DIR": str(Path(command[0]).parents[1]),
        "YOLO_OFFLINE": "true",
    }
    with log.open("w") as output:
        done = subprocess.run(
            command, env=os.environ | settings, stdout=output, stderr=subprocess.STDOUT
        )
    if done.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        typer.echo(f"{log}: exit status {done.returncode}: {' '.join(last)}", err=True)
        raise typer.Exit(1)


def _provenance() -> dict[str, Any]:
    machine = describe_machine()
    return {key: machine[key] for key in ("commit", "dirty", "cpu", "platform")} | {"done": now()}


if __name__ == "__main__":
    typer.run(main)
