#!/usr/bin/env bash
# labelme2coco writes rectangles and points with an empty segmentation, which pycocotools cannot decode
# (IndexError); lines and points become objects of no and of one pixel; and two polygons of one group, by
# which LabelMe marks the pieces of one object, become two objects. Only polygons and circles come through.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check labelme2coco==0.2.6 numpy==2.4.6 pycocotools==2.0.11 pillow==13.0.0
cat > show.py <<'PY'
import json
import os
import sys
from importlib.metadata import version

from labelme2coco import convert
from PIL import Image
from pycocotools.coco import COCO

os.mkdir("labelme")
Image.new("RGB", (100, 80)).save("labelme/a.png")


def shape(kind, points, group=None):
    return {"label": "cell", "points": points, "group_id": group, "shape_type": kind, "flags": {}}


shapes = [
    shape("polygon", [[10, 10], [20, 10], [20, 20], [10, 20]], group=1),
    shape("polygon", [[30, 10], [40, 10], [40, 20], [30, 20]], group=1),
    shape("circle", [[60, 40], [70, 40]]),
    shape("rectangle", [[50, 60], [70, 75]]),
    shape("line", [[5, 50], [8, 60]]),
    shape("point", [[90, 70]]),
]
content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a.png"}
content |= {"imageData": None, "imageHeight": 80, "imageWidth": 100}
with open("labelme/a.json", "w") as file:
    json.dump(content, file)
convert("labelme", "coco")
coco = COCO("coco/dataset.json")
found = []
for annotation, drawn in zip(coco.anns.values(), shapes, strict=True):
    try:
        found.append(int(coco.annToMask(annotation).sum()))
    except IndexError:
        found.append("IndexError")
    print(f"{drawn['shape_type']}: area {annotation['area']}, decoded {found[-1]}")
print("labelme2coco", version("labelme2coco"))
sys.exit(found != [100, 100, 316, "IndexError", 0, "IndexError"])
PY
venv/bin/python show.py
