#!/usr/bin/env bash
# hotcoco's to_cvat writes an object in two pieces as two objects (nothing groups them), and an object
# whose mask is run lengths as a box; what it returns names nothing lost. Read back by hotcoco, two
# objects of 200 and 940 pixels are three, of 100, 100 and 1521. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 hotcoco==1.3.0
cat > show.py <<'PY'
import json

import hotcoco
import numpy as np
from pycocotools import mask

HEIGHT, WIDTH = 96, 128
rows, columns = np.mgrid[:HEIGHT, :WIDTH]
distance = (columns - 30) ** 2 + (rows - 30) ** 2
code = mask.encode(((distance < 400) & (distance >= 100)).astype(np.uint8, order="F"))
pieces = [[10, 60, 20, 60, 20, 70, 10, 70], [30, 60, 40, 60, 40, 70, 30, 70]]
common = {"image_id": 1, "category_id": 1, "iscrowd": 0}
with open("gt.json", "w") as file:
    json.dump({
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            common | {"id": 1, "segmentation": pieces, "bbox": [10, 60, 30, 10], "area": 200},
            common | {"id": 2, "bbox": mask.toBbox(code).tolist(), "area": int(mask.area(code)),
                      "segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}},
        ],
    }, file)


def pixels(coco):
    return [int(np.asarray(coco.annToMask(a)).sum()) for a in coco.loadAnns(coco.getAnnIds())]


before = hotcoco.COCO("gt.json")
said = before.to_cvat("out.xml")
after = hotcoco.COCO.from_cvat("out.xml")
print(f"hotcoco {hotcoco.__version__}: {pixels(before)} pixels before, {pixels(after)} after; "
      f"to_cvat returns {said}")
assert pixels(before) == [200, 940]
assert pixels(after) == [100, 100, 1521]
assert said == {"images": 1, "boxes": 1, "polygons": 2, "skipped_no_geometry": 0,
                "skipped_degenerate": 0}
PY
venv/bin/python show.py
