#!/usr/bin/env bash
# dataflow-cv, which converts between COCO, YOLO and LabelMe, writes only the box of an object that has a box
# beside its polygons, as COCO's objects do: lines of 5 numbers for YOLO, rectangles for LabelMe. Its filter,
# from COCO to COCO, keeps polygons, but makes one of the pieces of an object, through all their corners: 800
# pixels become 1100, with the area of the box, 6000. It says that the file has boxes and masks, not that it
# loses any. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 opencv-python==5.0.0.93 dataflow-cv==3.0.0
cat > show.py <<'PY'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from pycocotools import mask

HEIGHT, WIDTH = 100, 200


def square(x, y):
    """A polygon of 20×20 pixels."""
    return [x, y, x + 20, y, x + 20, y + 20, x, y + 20]


def pixels(rings):
    return int(mask.area(mask.merge(mask.frPyObjects(rings, HEIGHT, WIDTH))))


def dataflow(*arguments):
    """What its command prints."""
    done = subprocess.run([Path(sys.executable).with_name("dataflow-cv"), *arguments],
                          check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


common = {"image_id": 1, "category_id": 1, "iscrowd": 0}
objects = [
    common | {"id": 1, "bbox": [10, 10, 20, 20], "area": 400, "segmentation": [square(10, 10)]},
    common | {"id": 2, "bbox": [50, 10, 100, 60], "area": 800,
              "segmentation": [square(50, 10), square(130, 50)]},
]
Path("gt.json").write_text(json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": objects,
}))
Path("classes.txt").write_text("cell\n")
told = dataflow("convert", "coco2yolo", "gt.json", "yolo")
told += dataflow("convert", "coco2labelme", "gt.json", "labelme")
told += dataflow("analyse", "filter", "gt.json", "classes.txt", "classes.txt", "filtered")
lines = [len(line.split()) for line in Path("yolo/labels/a.txt").read_text().splitlines()]
shapes = [s["shape_type"] for s in json.loads(Path("labelme/a.json").read_text())["shapes"]]
kept = json.loads(Path("filtered/gt.json").read_text())["annotations"]
print(f"dataflow-cv {version('dataflow-cv')}: numbers on YOLO's lines {lines}; LabelMe's shapes {shapes}")
for before, after in zip(objects, kept):
    print(f"filtered: {len(before['segmentation'])} polygons of {pixels(before['segmentation'])} pixels, now "
          f"{len(after['segmentation'])} of {pixels(after['segmentation'])}, area {after['area']}")
assert (lines, shapes) == ([5, 5], ["rectangle"] * 2)
assert [len(a["segmentation"]) for a in kept] == [1, 1]
assert [(pixels(a["segmentation"]), a["area"]) for a in kept] == [(400, 400), (1100, 6000)]
words = ("mask", "polygon", "segmentation", "box")
said = {line.split("INFO")[-1].strip() for line in told.splitlines() if any(w in line.lower() for w in words)}
assert said == {"Detected mixed annotation types: object detection + instance segmentation"}
PY
venv/bin/python show.py
