#!/usr/bin/env bash
# torchmetrics gives pycocotools the recall thresholds of COCO in single precision. Some of them, 0.6
# for one, are then above the recall that they stand for, and the precision of the next true positive
# is read: with 6 of 10 objects found first, the others after 60 false positives, AP is 0.008 below
# pycocotools' own. Thresholds in double precision give that. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 torch==2.14.1 torchvision==0.29.1 pycocotools==2.0.11 torchmetrics==1.9.0
cat > show.py <<'PY'
import contextlib
import io
import sys

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

objects = [[20.0 * k, 10, 15, 15] for k in range(10)]
boxes = [*objects[:6], *[[10.0, 60, 15, 15]] * 60, *objects[6:]]
scores = [1 - k / 100 for k in range(len(boxes))]


def by_torchmetrics(**options):
    def corners(values):
        values = torch.tensor(values)
        return torch.cat([values[:, :2], values[:, :2] + values[:, 2:]], dim=1)

    metric = MeanAveragePrecision(**options)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    found = {"boxes": corners(boxes), "scores": torch.tensor(scores), "labels": labels}
    metric.update([found], [{"boxes": corners(objects), "labels": labels[: len(objects)]}])
    return float(metric.compute()["map"])


def by_pycocotools():
    common = {"image_id": 1, "category_id": 1}
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 200}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            common | {"id": k, "bbox": box, "area": 225, "iscrowd": 0}
            for k, box in enumerate(objects, start=1)
        ],
    }
    results = [common | {"bbox": b, "score": s} for b, s in zip(boxes, scores)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])


found = [
    round(value, 4)
    for value in (
        by_pycocotools(),
        by_torchmetrics(),
        by_torchmetrics(rec_thresholds=np.linspace(0, 1, 101).tolist()),
    )
]
print("AP by pycocotools, torchmetrics, torchmetrics with thresholds in doubles:", *found)
expected = [0.6605, 0.6521, 0.6605]
sys.exit(found != expected)
PY
venv/bin/python show.py
