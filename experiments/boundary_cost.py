"""What the boundary targets cost: their share of a training step of B2Inst with the boundary basis.

    .venv/bin/python experiments/boundary_cost.py

Times the targets of a batch and the whole step (forward, backward) on the tiny profile's scenes,
interleaved, medians of CPU time in one thread. Writes ``results/tiny/boundary_cost.json``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import typer

from b2inst import create_model
from b2inst.data import train_loader
from b2inst.experiments import Workspace, load_profile
from b2inst.experiments.runs.datasets import load_split, prepare, training_set
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json
from b2inst.ops.boundary import boundary_target


def main(batches: int = 40) -> None:
    """Measure, print and store the share."""
    torch.set_num_threads(1)
    workspace = Workspace.here()
    plan = load_profile("tiny")
    index = load_split(prepare(plan.data, workspace.data), "train", workspace.data)
    dataset = training_set(index, plan.augmentation)
    spec = plan.run_spec("b2inst-blendmask", {"scoring": []}, seed=0)
    model = create_model(spec.model, num_classes=8, **spec.options)
    loader = iter(train_loader(dataset, batch_size=plan.schedule.batch_size, seed=0))
    steps: list[float] = []
    targets_only: list[float] = []
    for _ in range(batches):
        images, targets = next(loader)
        height, width = images[0].shape[-2:]
        size = (height // 2, width // 2)
        targets_only.append(
            _seconds(lambda: [boundary_target(t.masks, stride=2, size=size) for t in targets])  # noqa: B023
        )
        steps.append(
            _seconds(lambda: torch.stack(list(model(images, targets).values())).sum().backward())  # noqa: B023
        )
    share = 100 * statistics.median(targets_only) / statistics.median(steps)
    result = {
        "target_ms": round(1e3 * statistics.median(targets_only), 3),
        "step_ms": round(1e3 * statistics.median(steps), 2),
        "share_percent": round(share, 2),
        "batches": batches,
        "batch_size": plan.schedule.batch_size,
        "provenance": describe_machine(),
    }
    write_json(workspace.results / "tiny" / "boundary_cost.json", result)
    typer.echo(f"{result['target_ms']} ms of {result['step_ms']} ms a step: {share:.2f} percent")


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    typer.run(main)
