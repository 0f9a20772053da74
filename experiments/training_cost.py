"""What a training step costs: time, memory and operations, by model, size and memory option.

    .venv/bin/python experiments/training_cost.py [--only r101]

Each case is a process of its own that takes three steps as the training loop does (forward,
backward, SGD) on images of noise with seven discs of the sizes of COCO's objects: the first counts
operations, the second is timed, in the third memory is watched. Beside them stand the operations
of torchvision's Mask R-CNN, whose counterpart in detectron2 has a published time. Writes
``results/training_cost.json``; ``experiments/gpu.py`` measures the same cases on a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import torch
import typer
from lightning.fabric import Fabric
from torchvision.models.detection import maskrcnn_resnet50_fpn
from tqdm import tqdm

from b2inst import create_model
from b2inst.benchmark.measure import gflops, peak_memory_mb
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.provenance import peak_memory_mb as resident_peak_mb
from b2inst.experiments.runs.store import write_json
from b2inst.structures import Targets
from b2inst.training import Schedule
from b2inst.training.recompute import recompute_activations, recompute_normalised

#: Diameters of the objects at a shorter side of 800; COCO's areas spread about as widely.
DIAMETERS = (28, 45, 70, 110, 170, 260, 400)


@dataclass(frozen=True)
class Case:
    """One row of the result."""

    model: str
    height: int
    width: int
    batch: int = 1
    precision: str = "32-true"
    recompute: bool = False


B2INST = Case("b2inst-blendmask-r50", 512, 512)
FULL = replace(B2INST, height=800, width=1333)
CASES = (
    replace(B2INST, model="blendmask-r50", height=320, width=320),
    replace(B2INST, model="blendmask-r50"),
    replace(FULL, model="blendmask-r50"),
    replace(B2INST, height=320, width=320),
    B2INST,
    replace(B2INST, batch=2),
    replace(B2INST, recompute=True),
    replace(B2INST, precision="bf16-mixed"),
    FULL,
    replace(FULL, recompute=True),
    replace(FULL, model="b2inst-blendmask-r101"),
    replace(FULL, model="b2inst-blendmask-r101", recompute=True),
    replace(FULL, model="condinst-r50"),
    Case("yolact-r50", 550, 550),
    Case("b2inst-yolact-r50", 550, 550),
    Case("b2inst-yolact-r50", 550, 550, recompute=True),
    Case("yolact-r101", 550, 550),
)


def main(
    only: Annotated[str, typer.Option(help="Cases whose model's name has this in it.")] = "",
    case: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, print and store what a step of each case costs."""
    if case is not None:
        typer.echo(json.dumps(measure(Case(**json.loads(case)), "cpu")))
        return
    provenance = describe_machine() | {"began": now()}  # before someone edits the checkout
    load, rows = os.getloadavg(), []
    chosen = [one for one in CASES if only in one.model]
    for one in (bar := tqdm(chosen, unit="case")):
        bar.set_postfix_str(f"{one.model} {one.height}×{one.width}")
        command = [sys.executable, __file__, "--case", json.dumps(asdict(one))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(asdict(one) | json.loads(done.stdout.splitlines()[-1]))
        tqdm.write(" ".join(f"{key}={value}" for key, value in rows[-1].items()))
    content = {
        "load_average": {"before": load[0], "after": os.getloadavg()[0], "cpus": os.cpu_count()},
        "cases": rows,
        "mask_rcnn_r50_gflops": round(mask_rcnn_gflops(FULL), 1),
        "provenance": provenance,
    }
    write_json(Workspace.here().results / "training_cost.json", content)


def measure(case: Case, device: str) -> dict[str, Any]:
    """The cost of one step, after one that fills caches and makes the optimiser's state."""
    fabric = Fabric(accelerator=device, devices=1, precision=case.precision)  # type: ignore[arg-type]
    options = {} if case.model.endswith("-tiny") else {"frozen_norm": True}
    model = create_model(case.model, num_classes=80, **options).train()
    for name, buffer in model.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(0.1)  # fresh weights behind fixed norms: values would grow with depth
    model.to(memory_format=torch.channels_last)
    (recompute_activations if case.recompute else recompute_normalised)(model)
    optimizer, _ = Schedule(learning_rate=1e-6).optimizer_for(model)
    wrapped, optimizer = fabric.setup(model, optimizer)
    images, targets = noise_with_discs(case)
    targets = [target.to(fabric.device) for target in targets]

    def step() -> None:
        losses = wrapped(images, targets)
        fabric.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def clock() -> tuple[float, float]:
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    resident = resident_peak_mb() or 0
    operations = gflops(step)
    steps = 5 if device == "cuda" else 1  # each is short there
    before = clock()
    for _ in range(steps):
        step()
    wall, cpu = ((after - then) / steps for after, then in zip(clock(), before, strict=True))
    resident = (resident_peak_mb() or 0) - resident
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e6
    trained = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad) / 1e6
    return {
        "parameters_m": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
        "gflops": round(operations, 1),
        "wall_seconds": round(wall, 4),
        "cpu_seconds": round(cpu, 3),
        "weights_and_momentum_mb": round(weights + trained),
        "step_mb": round(peak_memory_mb(step, fabric.device)),
        "resident_mb": round(resident) if device == "cpu" else None,
    }


def mask_rcnn_gflops(case: Case) -> float:
    """Operations of a training step of torchvision's Mask R-CNN R-50, its first stage fixed.

    With fresh weights few proposals fit an object, so that the mask head has few RoIs to train.
    """
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81).train()
    for part in (model.backbone.body.conv1, model.backbone.body.layer1):
        part.requires_grad_(False)
    images, targets = noise_with_discs(case)
    truths = [{"boxes": t.boxes, "labels": t.labels + 1, "masks": t.masks} for t in targets]

    def step() -> None:
        torch.stack(list(model([i / 255 for i in images], truths).values())).sum().backward()

    return gflops(step)


def noise_with_discs(case: Case) -> tuple[list[torch.Tensor], list[Targets]]:
    """Images of noise, and discs at random places as their objects."""
    torch.manual_seed(0)
    size = (case.height, case.width)
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    images, targets = [], []
    for number in range(case.batch):
        images.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
        radii = torch.tensor(DIAMETERS) / 2 * min(size) / 800
        space = torch.tensor(size) - 2 * radii[:, None]
        y, x = (torch.rand(len(radii), 2) * space + radii[:, None]).unbind(1)
        square = (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2
        masks = (square < radii[:, None, None] ** 2).to(torch.uint8)
        targets.append(
            Targets(
                image_id=number,
                boxes=torch.stack([x - radii, y - radii, x + radii, y + radii], dim=1),
                labels=torch.arange(len(radii)),
                masks=masks,
                semantic=(masks * (torch.arange(len(radii)) + 1)[:, None, None]).amax(0).byte(),
                crowds=torch.zeros(0, 4),
            )
        )
    return images, targets


if __name__ == "__main__":
    typer.run(main)
