#!/usr/bin/env bash
# APs and APm of masks change with a field that mask AP does not use: where COCO results carry boxes,
# loadRes takes the size of a detection from its box, else from its mask. Of thin objects one is "small"
# by its mask and "medium" by its box. It is the first result that decides for the whole file.
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
import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 120, 160


def described(pixels):
    code = mask.encode(np.asfortranarray(pixels))
    box = mask.toBbox(code).tolist()
    return {"bbox": box, "segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}}


thin = np.zeros((HEIGHT, WIDTH), np.uint8)
for k in range(60):  # a diagonal: 480 pixels in a box of 67×60
    thin[20 + k, 20 + k : 28 + k] = 1
square = np.zeros((HEIGHT, WIDTH), np.uint8)
square[10:50, 100:140] = 1  # 1600 pixels
truth = [thin, square]
with open("gt.json", "w") as file:
    json.dump({
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, "area": int(m.sum()), "iscrowd": 0} | described(m)
            for k, m in enumerate(truth, 1)
        ],
    }, file)
# Both objects, and a wrong one of higher score: the thin object mirrored.
results = [
    {"image_id": 1, "category_id": 1, "score": score} | described(np.ascontiguousarray(m))
    for m, score in ((thin[:, ::-1], 0.95), (thin, 0.9), (square, 0.8))
]


def without_box(result):
    return {key: value for key, value in result.items() if key != "bbox"}


FILES = {
    "all with boxes": results,
    "none with a box": [without_box(r) for r in results],
    "the first without": [without_box(results[0]), *results[1:]],
}
LIBRARIES = {
    "pycocotools": (COCO, COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "hotcoco": (hotcoco.COCO, hotcoco.COCOeval),
}
for name, (load, evaluator) in LIBRARIES.items():
    print(f"{name} {version(name)}")
    for title, content in FILES.items():
        with open("results.json", "w") as file:
            json.dump(content, file)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = load("gt.json")
            evaluation = evaluator(coco, coco.loadRes("results.json"), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        ap, small, medium = (round(float(evaluation.stats[k]), 3) for k in (0, 3, 4))
        print(f"  {title:18} mask AP {ap}, APs {small}, APm {medium}")
        assert ap == 0.667
        assert (small, medium) == ((1.0, 0.5) if title == "all with boxes" else (0.5, 1.0))
PY
venv/bin/python show.py
