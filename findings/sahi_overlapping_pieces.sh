#!/usr/bin/env bash
# A COCO object whose two polygons overlap, as annotators draw a long object in two goes. COCO's masks are
# the union, 1600 pixels by pycocotools; sahi draws it with the overlap as a hole, 1520 pixels, and its
# slice_coco writes polygons around the hole, so that in the new file 1400 are left. Nothing is said.
# Exits 1 if that changes.
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

from PIL import Image
from pycocotools import mask
from sahi.annotation import Mask
from sahi.slicing import slice_coco

HEIGHT, WIDTH = 60, 80
PIECES = [[10, 10, 40, 10, 40, 40, 10, 40], [30, 20, 60, 20, 60, 50, 30, 50]]


def pixels(rings):
    return int(mask.area(mask.merge(mask.frPyObjects(rings, HEIGHT, WIDTH))))


os.makedirs("images")
Image.new("RGB", (WIDTH, HEIGHT)).save("images/a.png")
with open("gt.json", "w") as file:
    json.dump({
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "thing", "supercategory": ""}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": PIECES, "iscrowd": 0,
             "bbox": [10, 10, 50, 40], "area": 1600}
        ],
    }, file)
content, _ = slice_coco("gt.json", "images", "sliced", output_dir="out", slice_height=HEIGHT,
                        slice_width=WIDTH, overlap_height_ratio=0, overlap_width_ratio=0)
(after,) = content["annotations"]
drawn = int(Mask(segmentation=PIECES, full_shape=[HEIGHT, WIDTH]).bool_mask.sum())
print(f"pycocotools {version('pycocotools')}: {pixels(PIECES)} pixels; sahi {version('sahi')}: {drawn}; after "
      f"slice_coco, whose slice is the whole image: {pixels(after['segmentation'])}, area {after['area']}")
assert (pixels(PIECES), drawn) == (1600, 1520)
assert (pixels(after["segmentation"]), after["area"]) == (1400, 1400)
PY
venv/bin/python show.py
