"""What a training step of Table 4's methods costs, beside that of the model each is built on.

    .venv/bin/python experiments/step_cost.py [--rounds 7]

Forward, backward and SGD on one image of ``training_cost.py``, in one process on one CPU thread:
all models take a step before any takes its next, so that disturbances affect all alike. ResNet-50,
80 classes, fixed batch norm in the backbone, whose stem and first stage are not trained. Writes
``results/step_cost.json``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import typer
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from tqdm import tqdm
from training_cost import B2INST, noise_with_discs

from b2inst import create_model
from b2inst.benchmark.measure import gflops, peak_memory_mb
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json

TORCHVISION = "torchvision's Mask R-CNN"
#: Models, each with the one that it is compared with.
BASES = {
    "blendmask-r50": None,
    "b2inst-blendmask-r50": "blendmask-r50",
    "centermask-r50": "blendmask-r50",
    "tensormask-r50": "blendmask-r50",
    TORCHVISION: None,
    "maskrcnn-r50": TORCHVISION,
    "pointrend-r50": TORCHVISION,
    "fcis-r50": TORCHVISION,
    "mnc-r50": TORCHVISION,
    "masklab-r50": TORCHVISION,
}

Step = Callable[[], None]


def main(rounds: Annotated[int, typer.Option(min=1, help="Timed steps per model.")] = 7) -> None:
    """Measure, print and store."""
    torch.set_num_threads(1)
    provenance, load = describe_machine(), os.getloadavg()[0]
    images, targets = noise_with_discs(B2INST)
    steps = {name: _step(name, images, targets) for name in BASES}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    costs = {}
    for name, step in (bar := tqdm(steps.items(), unit="model")):  # the first step of each
        bar.set_postfix_str(name)
        operations = gflops(step)
        memory = peak_memory_mb(step, torch.device("cpu"))
        costs[name] = {"gflops": round(operations, 1), "step_mb": round(memory)}
    for _ in tqdm(range(rounds), unit="round"):
        for name, step in steps.items():
            began = time.process_time()
            step()
            seconds[name].append(time.process_time() - began)
    rows = []
    for name, base in BASES.items():
        row = {"model": name, "cpu_seconds": round(median(seconds[name]), 3), **costs[name]}
        if base is not None:
            ratios = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
            values = {"ratio": median(ratios), "least": min(ratios), "largest": max(ratios)}
            row |= {"base": base, **{key: round(value, 3) for key, value in values.items()}}
        rows.append(row)
        typer.echo(" ".join(f"{key}={value}" for key, value in row.items()))
    content = {
        "height": B2INST.height,
        "width": B2INST.width,
        "rounds": rounds,
        "load_average": {"before": load, "after": os.getloadavg()[0], "cpus": os.cpu_count()},
        "models": rows,
        "provenance": provenance,
    }
    write_json(Workspace.here().results / "step_cost.json", content)


def _step(name: str, images: list[torch.Tensor], targets: list) -> Step:
    """A step on the images, as a function."""
    model: nn.Module
    if name == TORCHVISION:
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d
        )
        size = {"min_size": B2INST.height, "max_size": B2INST.width}  # images are not resized
        model = MaskRCNN(backbone, num_classes=81, **size)
        images = [image / 255 for image in images]
        targets = [{"boxes": t.boxes, "labels": t.labels + 1, "masks": t.masks} for t in targets]
    else:
        model = create_model(name, num_classes=80, frozen_norm=True)
    for part, buffer in model.named_buffers():
        if part.endswith("bn3.weight"):
            buffer.fill_(0.1)  # fresh weights behind fixed norms: values would grow with depth
    model.train().to(memory_format=torch.channels_last)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)

    def step() -> None:
        torch.stack(list(model(images, targets).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    typer.run(main)
