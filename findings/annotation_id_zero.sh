#!/usr/bin/env bash
# pycocotools and faster-coco-eval mean "unmatched" by annotation id 0, so that a file whose ids begin
# at 0 loses one object: two perfect detections have an AP of 0.25 or 0.5, by which of them is the
# surer. pycocotools says nothing, faster-coco-eval warns. hotcoco has 1.0. Exits 1 if that changes.
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
import warnings

from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from hotcoco import COCO as HotCOCO
from hotcoco import COCOeval as HotCOCOeval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def ap(coco, coco_eval, first_id):
    objects = [
        {"image_id": 1, "category_id": 1, "bbox": [20 + 40 * k, 20, 20, 20]} for k in range(2)
    ]
    truth = coco()
    truth.dataset = {
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": first_id + k, "iscrowd": 0, "area": 400, **o} for k, o in enumerate(objects)
        ],
    }
    results = [o | {"score": 0.9 - 0.1 * k} for k, o in enumerate(objects)]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        truth.createIndex()
        evaluator = coco_eval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return round(float(evaluator.stats[0]), 3), any("id 0" in str(w.message) for w in told)


found = {}
for name, coco, coco_eval in (
    ("pycocotools", COCO, COCOeval),
    ("faster-coco-eval", FasterCOCO, COCOeval_faster),
    ("hotcoco", HotCOCO, HotCOCOeval),
):
    found[name] = [ap(coco, coco_eval, first_id) for first_id in (1, 0)]
    print(f"{name}: AP and warning with ids from 1 {found[name][0]}, from 0 {found[name][1]}")
expected = {
    "pycocotools": [(1.0, False), (0.252, False)],
    "faster-coco-eval": [(1.0, False), (0.252, True)],
    "hotcoco": [(1.0, False), (1.0, False)],
}
sys.exit(found != expected)
PY
venv/bin/python show.py
