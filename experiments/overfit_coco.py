"""Can the model learn real images at all? Train on a few of them and evaluate on the same.

    .venv/bin/python experiments/overfit_coco.py DATA

Takes the first images of a split that hold objects, by image id; nothing is picked by hand. A tiny
model should reach a mask AP of at least 50 on what it has seen; a lower figure
points at a bug in data, losses or evaluation, not at a small model. Rerun after Ctrl-C to
resume. Writes ``metrics.json``, predictions and weights into ``--out``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

import b2inst
from b2inst.data import CocoDataset, CocoIndex, find_split, train_transforms
from b2inst.evaluation import evaluate, read_predictions, write_predictions
from b2inst.training import Schedule, train


def main(
    data: Annotated[Path, typer.Argument(help="COCO-format folder.")],
    name: Annotated[str, typer.Option("--model")] = "b2inst-blendmask-tiny",
    split: Annotated[str, typer.Option()] = "train2017",
    images: Annotated[int, typer.Option(min=1)] = 8,
    shorter: Annotated[int, typer.Option(min=32, help="Shorter side in pixels.")] = 224,
    iterations: Annotated[int, typer.Option(min=1)] = 600,
    out: Annotated[Path, typer.Option()] = Path("runs/overfit"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Overfit a few real images and print the AP on them."""
    index = CocoIndex.load(*find_split(data, split)).annotated()
    index = index.subset([image.id for image in sorted(index.images, key=lambda i: i.id)[:images]])
    size = {"shorter": shorter, "longer_max": 2 * shorter}
    weights = out / "model.safetensors"
    if not weights.exists():
        torch.manual_seed(seed)
        model = b2inst.create_model(
            name,
            num_classes=len(index.class_names),
            class_names=index.class_names,
            **size,
        )
        schedule = Schedule(
            iterations=iterations,
            batch_size=min(images, 4),
            optimizer="adamw",
            learning_rate=0.004,
            policy="one-cycle",
            warmup_iterations=iterations // 10,
            checkpoint_every=50,
        )
        dataset = CocoDataset(index, train_transforms(**size, flip=0))
        train(model, dataset, schedule=schedule, seed=seed, out=out)
    predictions = out / "predictions.jsonl.gz"
    write_predictions(b2inst.load_model(weights), index, predictions)
    metrics = evaluate(read_predictions(predictions), index)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    typer.echo(f"{len(index.images)} images, {iterations} iterations: mask AP {metrics['AP']:.1f}")


if __name__ == "__main__":
    typer.run(main)
