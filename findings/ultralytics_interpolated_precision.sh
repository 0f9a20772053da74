#!/usr/bin/env bash
# Ultralytics' AP of given matches is not COCO's: it draws straight lines between the points of the
# precision-recall curve, where COCO takes the greatest precision at that recall or beyond. With two
# objects, found first and third of three detections, COCO's AP is 0.835 and Ultralytics' is 0.828.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 torch==2.14.1 torchvision==0.29.1 pycocotools==2.0.11 ultralytics==8.4.190
cat > show.py <<'PY'
import contextlib
import io
import sys

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.utils.metrics import ap_per_class

SCORES = [0.9, 0.8, 0.7]


def by_pycocotools():
    common = {"image_id": 1, "category_id": 1}
    objects, boxes = [[10, 10, 20, 20], [60, 60, 20, 20]], [[10, 10, 20, 20], [60, 10, 20, 20]]
    boxes.append(objects[1])
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            common | {"id": k, "bbox": box, "area": 400, "iscrowd": 0}
            for k, box in enumerate(objects, start=1)
        ],
    }
    results = [common | {"bbox": b, "score": s} for b, s in zip(boxes, SCORES)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])


def by_ultralytics():
    matches = np.repeat([[True], [False], [True]], 10, axis=1)  # at the ten IoU thresholds
    classes = np.zeros(3)
    return float(ap_per_class(matches, np.array(SCORES), classes, classes[:2])[5].mean())


found = [round(by_pycocotools(), 3), round(by_ultralytics(), 3)]
print("AP by pycocotools and Ultralytics:", *found)
expected = [0.835, 0.828]
sys.exit(found != expected)
PY
YOLO_CONFIG_DIR=$folder venv/bin/python show.py
