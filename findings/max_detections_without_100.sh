#!/usr/bin/env bash
# With maxDets [1, 10, 500], for images of many objects, the AP that pycocotools sums up is -1, since
# it looks for the results of 100 detections; AP50 and AP75 are of 500. faster-coco-eval and hotcoco,
# which both stand in for it, have an AP. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cat > show.py <<'PY'
import contextlib
import io
import sys

from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from hotcoco import COCO as HotCOCO
from hotcoco import COCOeval as HotCOCOeval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def aps(coco, coco_eval):
    """200 objects in an image, all found."""
    objects = [
        {"image_id": 1, "category_id": 1, "bbox": [10 * (k % 20), 10 * (k // 20), 8, 8]}
        for k in range(200)
    ]
    truth = coco()
    truth.dataset = {
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 200}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": 1 + k, "iscrowd": 0, "area": 64, **o} for k, o in enumerate(objects)
        ],
    }
    results = [o | {"score": 1 - k / 1000} for k, o in enumerate(objects)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = coco_eval(truth, truth.loadRes(results), "bbox")
        evaluator.params.maxDets = [1, 10, 500]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [round(float(value), 3) for value in evaluator.stats[:3]]


found = {
    "pycocotools": aps(COCO, COCOeval),
    "faster-coco-eval": aps(FasterCOCO, COCOeval_faster),
    "hotcoco": aps(HotCOCO, HotCOCOeval),
}
for name, values in found.items():
    print(f"{name}: AP, AP50, AP75 {values}")
expected = {
    "pycocotools": [-1.0, 1.0, 1.0],
    "faster-coco-eval": [1.0, 1.0, 1.0],
    "hotcoco": [1.0, 1.0, 1.0],
}
sys.exit(found != expected)
PY
venv/bin/python show.py
