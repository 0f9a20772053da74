"""Does detectron2's COCOEvaluator give our models the AP that ours does?

    .venv/bin/python experiments/detectron2_agreement.py DATA

Trains two tiny models on a COCO-format folder, if they do not exist (rerun after Ctrl-C to
resume), evaluates both splits natively and through detectron2, and writes
``results/detectron2_agreement.json``. Needs detectron2 (docs/detectron2.md).
"""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_test_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor
from detectron2.evaluation import COCOEvaluator, inference_on_dataset

import b2inst
from b2inst.data import CocoDataset, CocoIndex, find_split, train_transforms
from b2inst.evaluation import Metrics, evaluate, read_predictions, write_predictions
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json
from b2inst.integrations.detectron2 import add_b2inst_config, export
from b2inst.training import Schedule, train

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MODELS: dict[str, dict[str, Any]] = {
    "b2inst-blendmask-tiny": {"shorter": 128, "longer_max": 213},
    "b2inst-yolact-tiny": {"size": 128},
}


def main(
    data: Annotated[Path, typer.Argument(help="COCO-format folder.")],
    iterations: Annotated[int, typer.Option(min=1)] = 1200,
    out: Annotated[Path, typer.Option()] = Path("runs/detectron2"),
) -> None:
    """Train what is missing, evaluate twice, print and store the differences."""
    splits = [find_split(data, split) for split in ("train2017", "val2017")]
    for file, images in splits:
        register_coco_instances(file.stem, {}, str(file), str(images))
    result: dict[str, Any] = {"iterations": iterations, "models": {}}
    for name, options in MODELS.items():
        weights = out / name / "model.safetensors"
        if not weights.exists():
            _train(name, options, CocoIndex.load(*splits[0]).annotated(), iterations, out / name)
        result["models"][name] = {
            file.stem: _compare(weights, CocoIndex.load(file, images), out / name)
            for file, images in splits
        }
    versions = {package: version(package) for package in ("detectron2", "fvcore")}
    result["provenance"] = describe_machine() | {"beside": versions}
    write_json(Workspace.here().results / "detectron2_agreement.json", result)


def _train(
    name: str, options: dict[str, Any], index: CocoIndex, iterations: int, out: Path
) -> None:
    torch.manual_seed(0)
    names = index.class_names
    model = b2inst.create_model(name, num_classes=len(names), class_names=names, **options)
    resizing = train_transforms(
        shorter=128, longer_max=213, fixed_size=model.preprocessor.fixed_size, flip=0.0
    )
    schedule = Schedule(
        iterations=iterations,
        batch_size=8,
        optimizer="adamw",
        learning_rate=0.004,
        policy="one-cycle",
        warmup_iterations=iterations // 10,
        checkpoint_every=200,
    )
    train(model, CocoDataset(index, resizing), schedule=schedule, seed=0, out=out)


def _compare(weights: Path, index: CocoIndex, out: Path) -> dict[str, Any]:
    split = index.annotation_file.stem
    write_predictions(b2inst.load_model(weights), index, out / f"{split}.jsonl.gz")
    predictions = read_predictions(out / f"{split}.jsonl.gz")
    one_score = [record | {"class_score": record["score"]} for record in predictions]
    cfg = get_cfg()
    add_b2inst_config(cfg)
    cfg.merge_from_file(str(export(weights, out)))
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATALOADER.NUM_WORKERS = 0
    found = {
        "ours": evaluate(predictions, index.annotation_file),
        "ours, boxes ranked by the mask score": evaluate(one_score, index.annotation_file),
        "detectron2": _theirs(cfg, split, out),
    }
    if not cfg.INPUT.MIN_SIZE_TEST:
        cfg.merge_from_list(["INPUT.MIN_SIZE_TEST", 800, "INPUT.MAX_SIZE_TEST", 1333])
        found["detectron2, images resized twice"] = _theirs(cfg, split, out)
    first, second = (found[key] for key in ("ours, boxes ranked by the mask score", "detectron2"))
    differences = {key: abs((second[key] or 0) - (first[key] or 0)) for key in second}
    found["largest difference"] = {
        "masks": max(value for key, value in differences.items() if key in METRICS),
        "boxes": max(value for key, value in differences.items() if key not in METRICS),
    }
    typer.echo(f"{out.name}, {split}: AP {second['AP']}, {found['largest difference']}")
    return found


def _theirs(cfg: CfgNode, split: str, out: Path) -> Metrics:
    """detectron2's metrics under our names; None for its NaN."""
    metrics = inference_on_dataset(
        DefaultPredictor(cfg).model,
        build_detection_test_loader(cfg, split),
        COCOEvaluator(split, output_dir=str(out)),
    )
    return {
        prefix + name: None if math.isnan(metrics[task][name]) else metrics[task][name]
        for task, prefix in (("segm", ""), ("bbox", "box_"))
        for name in METRICS
    }


if __name__ == "__main__":
    typer.run(main)
