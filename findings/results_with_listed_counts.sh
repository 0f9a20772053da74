#!/usr/bin/env bash
# COCO results whose masks are polygons, or run lengths as a list of numbers, as SAM's
# "uncompressed_rle" writes them. pycocotools and faster-coco-eval evaluate them where each result also
# has a box, and raise where it has none, though mask AP does not need the box. hotcoco reads all.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cat > show.py <<'PY'
import contextlib
import io
import json
from importlib.metadata import version

import faster_coco_eval
import hotcoco
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 48, 64
POLYGON = [[10, 10, 30, 10, 30, 30, 10, 30]]
code = mask.merge(mask.frPyObjects(POLYGON, HEIGHT, WIDTH))
runs = [10 * 48 + 10] + [20, 28] * 19 + [20, 48 * 34 + 18]  # column by column
assert sum(runs) == HEIGHT * WIDTH
FORMS = {
    "compressed": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()},
    "listed": {"size": [HEIGHT, WIDTH], "counts": runs},
    "polygons": POLYGON,
}
with open("gt.json", "w") as file:
    json.dump({
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": POLYGON,
                         "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}],
    }, file)


def mask_ap(name, segmentation, box):
    """AP of one perfect detection, or the name of the error."""
    result = {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": segmentation}
    if box:
        result["bbox"] = [10, 10, 20, 20]
    with open("results.json", "w") as file:
        json.dump([result], file)
    load, evaluator = {
        "pycocotools": (COCO, COCOeval),
        "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
        "hotcoco": (hotcoco.COCO, hotcoco.COCOeval),
    }[name]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            truth = load("gt.json")
            evaluation = evaluator(truth, truth.loadRes("results.json"), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        except (TypeError, RuntimeError) as error:
            return type(error).__name__
    return round(float(evaluation.stats[0]), 3)


for name in ("pycocotools", "faster-coco-eval", "hotcoco"):
    print(f"{name} {version(name)}")
    for form, segmentation in FORMS.items():
        with_box, without = (mask_ap(name, segmentation, box) for box in (True, False))
        print(f"  {form:10}  with a box: {with_box}, without: {without}")
        assert with_box == 1.0
        reads = name == "hotcoco" or form == "compressed"
        assert (without == 1.0) if reads else (without in ("TypeError", "RuntimeError"))
PY
venv/bin/python show.py
