#!/usr/bin/env bash
# supervision's COCO export marks objects with a hole, or of two pieces, as crowds, and writes objects of
# one or two pixels with an empty segmentation. Evaluated with pycocotools, whose crowds are ignored, the
# file's own masks as predictions have AP -1 where all objects are such. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 supervision==0.31.2 opencv-python-headless==4.14.0.94
cat > show.py <<'PY'
import contextlib
import io
import json
import warnings
from importlib.metadata import version

import numpy as np
import supervision
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

warnings.simplefilter("ignore")
Image.new("RGB", (64, 48)).save("a.png")


def exported(masks):
    """Annotations of objects as supervision writes them."""
    found = supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks).astype(float),
        mask=masks,
        class_id=np.zeros(len(masks), int),
    )
    data = supervision.DetectionDataset(["thing"], ["a.png"], {"a.png": found})
    data.as_coco(annotations_path="gt.json")
    with open("gt.json") as file:
        return json.load(file)["annotations"]


ring, pieces, pair = (np.zeros((48, 64), bool) for _ in range(3))
ring[5:35, 5:35], ring[15:25, 15:25] = True, False
pieces[5:15, 40:50] = pieces[30:40, 45:60] = True
pair[45, 10:12] = True
hole, two, small = exported(np.stack([ring, pieces, pair]))
print(f"supervision {version('supervision')}: iscrowd {hole['iscrowd']} with a hole, {two['iscrowd']} of "
      f"two pieces, segmentation of two pixels {small['segmentation']}")
assert (hole["iscrowd"], two["iscrowd"]) == (1, 1)
assert (small["iscrowd"], small["segmentation"]) == (0, [])

crowds = exported(np.stack([ring, pieces]))
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO("gt.json")
    results = truth.loadRes(
        [{"image_id": a["image_id"], "category_id": a["category_id"], "score": 1.0,
          "segmentation": truth.annToRLE(a)} for a in crowds]
    )
    evaluation = COCOeval(truth, results, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
print(f"pycocotools {version('pycocotools')}: AP of these masks on themselves {evaluation.stats[0]}")
assert evaluation.stats[0] == -1
PY
venv/bin/python show.py
