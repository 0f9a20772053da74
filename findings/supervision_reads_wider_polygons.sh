#!/usr/bin/env bash
# supervision draws the polygons of a COCO file with their outlines, pycocotools without: the masks that
# from_coco gives are a pixel wider and higher. Given back as predictions of the same file, these
# ground-truth masks have mask AP 0.70 for objects of 10×10 pixels, not 1. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 supervision==0.31.2
cat > show.py <<'PY'
import contextlib
import io
import json
import os
from importlib.metadata import version

import numpy as np
import supervision
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

os.makedirs("images")
Image.new("RGB", (128, 96)).save("images/a.png")
for side in (10, 20, 40):
    corners = [[8, 8, 8 + side, 8, 8 + side, 8 + side, 8, 8 + side]]
    with open("gt.json", "w") as file:
        json.dump({
            "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}],
            "categories": [{"id": 1, "name": "square", "supercategory": ""}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": corners,
                 "bbox": [8, 8, side, side], "area": side**2, "iscrowd": 0}
            ],
        }, file)
    data = supervision.DetectionDataset.from_coco("images", "gt.json", force_masks=True)
    ((_, _, found),) = list(data)
    code = mask.encode(np.asfortranarray(found.mask[0].astype(np.uint8)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("gt.json")
        drawn = int(truth.annToMask(truth.anns[1]).sum())
        results = truth.loadRes(
            [{"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": code}]
        )
        evaluation = COCOeval(truth, results, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap = round(float(evaluation.stats[0]), 2)
    print(f"supervision {version('supervision')}, pycocotools {version('pycocotools')}: a square of "
          f"{side}×{side} has {int(found.mask.sum())} and {drawn} pixels, mask AP {ap}")
    assert (drawn, int(found.mask.sum())) == (side**2, (side + 1) ** 2)
    assert ap == {10: 0.7, 20: 0.9, 40: 1.0}[side]
PY
venv/bin/python show.py
