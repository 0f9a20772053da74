#!/usr/bin/env bash
# sahi's slice_coco writes an object whose mask is run lengths as the rectangle of its box, under
# "segmentation", so that a model learns boxes as masks: a ring of 940 pixels becomes one of 1521. A
# warning says that the segmentation "is skipped"; the object is not. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 sahi==0.12.8
cat > show.py <<'PY'
import json
import os
from importlib.metadata import version

import numpy as np
from PIL import Image
from pycocotools import mask
from sahi.slicing import slice_coco

HEIGHT, WIDTH = 96, 128
rows, columns = np.mgrid[:HEIGHT, :WIDTH]
distance = (columns - 30) ** 2 + (rows - 30) ** 2
ring = ((distance < 400) & (distance >= 100)).astype(np.uint8, order="F")
code = mask.encode(ring)
os.makedirs("images")
Image.new("RGB", (WIDTH, HEIGHT)).save("images/a.png")
with open("gt.json", "w") as file:
    json.dump({
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "ring", "supercategory": ""}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "area": int(ring.sum()), "iscrowd": 0,
             "bbox": mask.toBbox(code).tolist(),
             "segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}}
        ],
    }, file)
content, _ = slice_coco("gt.json", "images", "sliced", output_dir="out", slice_height=HEIGHT,
                        slice_width=WIDTH, overlap_height_ratio=0, overlap_width_ratio=0)
(found,) = content["annotations"]
drawn = mask.merge(mask.frPyObjects(found["segmentation"], HEIGHT, WIDTH))
print(f"sahi {version('sahi')}: a ring of {ring.sum()} pixels comes out as {found['segmentation']}, "
      f"{int(mask.area(drawn))} pixels, area {found['area']}")
assert (int(ring.sum()), int(mask.area(drawn)), found["area"]) == (940, 1521, 1521)
PY
venv/bin/python show.py
