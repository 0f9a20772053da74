#!/usr/bin/env bash
# sahi's slice_coco writes every annotation with iscrowd 0: a crowd region, which trainers leave out and
# evaluators ignore, is one large object in the new file. There, pycocotools gives two perfect detections
# a mask AP of 0.5, with the old file 1.0. A warning is about run lengths, none about crowds. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 pycocotools==2.0.11 sahi==0.12.8
cat > show.py <<'PY'
import contextlib
import io
import json
import os
from importlib.metadata import version

from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sahi.slicing import slice_coco

HEIGHT, WIDTH = 60, 80


def annotation(number, x, y, width, height, crowd):
    """A rectangle: polygons of an object, run lengths as a list of a crowd, as in COCO's own files."""
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    runs = [height, HEIGHT - height] * width
    counts = [HEIGHT * x + y, *runs[:-1], HEIGHT * WIDTH - HEIGHT * (x + width - 1) - y - height]
    return {"id": number, "image_id": 1, "category_id": 1, "iscrowd": crowd,
            "bbox": [x, y, width, height], "area": width * height,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts} if crowd else [corners]}


os.makedirs("images")
Image.new("RGB", (WIDTH, HEIGHT)).save("images/a.png")
content = {
    "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
    "categories": [{"id": 1, "name": "person", "supercategory": ""}],
    "annotations": [
        annotation(1, 5, 5, 20, 20, 0), annotation(2, 40, 5, 20, 20, 0),
        annotation(3, 5, 40, 70, 8, 1), annotation(4, 5, 50, 70, 8, 1),
    ],
}
with open("gt.json", "w") as file:
    json.dump(content, file)
# One slice, which is the whole image.
sliced, path = slice_coco("gt.json", "images", "sliced", output_dir="out", slice_height=HEIGHT,
                          slice_width=WIDTH, overlap_height_ratio=0, overlap_width_ratio=0)
found = {}
for name, file in (("before", "gt.json"), ("after", path)):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(file)
        results = [
            {"image_id": truth.getImgIds()[0], "category_id": 1, "score": 0.9, "segmentation":
             truth.annToRLE(a)} for a in content["annotations"][:2]
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    crowds = [a["iscrowd"] for a in truth.loadAnns(truth.getAnnIds())]
    found[name] = crowds, round(float(evaluation.stats[0]), 2)
    print(f"{name} slicing by sahi {version('sahi')}: iscrowd {crowds}, mask AP of two perfect detections "
          f"by pycocotools {version('pycocotools')} {found[name][1]}")
assert found == {"before": ([0, 0, 1, 1], 1.0), "after": ([0, 0, 0, 0], 0.5)}
PY
venv/bin/python show.py
