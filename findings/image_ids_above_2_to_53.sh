#!/usr/bin/env bash
# faster-coco-eval holds image ids as floating-point numbers. Of ids above 2^53, such as time stamps,
# neighbours are one image to it: detections in the wrong image count as right and AP is 1.0, without a
# word. pycocotools has the same AP for such ids as for 1 and 2. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 faster-coco-eval==1.8.0
cat > show.py <<'PY'
import contextlib
import io
import sys

from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def ap(coco, coco_eval, first, second):
    """One object in each of two images; each is detected in the other image only."""
    size = {"height": 100, "width": 100}
    common = {"category_id": 1, "iscrowd": 0, "area": 400}
    truth = coco()
    truth.dataset = {
        "images": [{"id": i, "file_name": f"{i}.png", **size} for i in (first, second)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            common | {"id": 1, "image_id": first, "bbox": [10, 10, 20, 20]},
            common | {"id": 2, "image_id": second, "bbox": [60, 60, 20, 20]},
        ],
    }
    results = [
        {"image_id": second, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9},
        {"image_id": first, "category_id": 1, "bbox": [60, 60, 20, 20], "score": 0.8},
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = coco_eval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return round(float(evaluator.stats[0]), 3)


stamps = 20250131120000001, 20250131120000000
found = []
for name, coco, coco_eval in (
    ("pycocotools", COCO, COCOeval),
    ("faster-coco-eval", FasterCOCO, COCOeval_faster),
):
    for ids in ((1, 2), stamps):
        found.append(ap(coco, coco_eval, *ids))
        print(f"{name}, images {ids}: AP {found[-1]}")
expected = [0.0, 0.0, 0.0, 1.0]
sys.exit(found != expected)
PY
venv/bin/python show.py
