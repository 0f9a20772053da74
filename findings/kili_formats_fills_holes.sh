#!/usr/bin/env bash
# Kili's COCO export, of kili-formats, writes the holes of an object as further polygons of it. COCO's polygons are
# added up, so that the holes are filled: pycocotools draws 1600 pixels of a square of 1200 with a hole of 400,
# with 1200 in the field "area". The polygons of holes were added on purpose (kili-python-sdk #1739). Its export
# for YOLO ("segment") leaves the hole open. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 pycocotools==2.0.11 \
  'kili-formats[coco]==1.7.1'
cat > show.py <<'PY'
import contextlib
import io
from importlib.metadata import version

import numpy as np
from kili_formats import convert_from_kili_to_coco_format, convert_from_kili_to_yolo_format
from kili_formats.types import JobCategory
from PIL import Image, ImageDraw
from pycocotools import mask

WIDTH, HEIGHT = 128, 64


def square(low, high):
    """A ring of four corners, as parts of the width and of the height."""
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return {"normalizedVertices": [{"x": x / WIDTH, "y": y / HEIGHT} for x, y in corners]}


label = {"jsonResponse": {"JOB": {"annotations": [{
    "type": "semantic", "categories": [{"name": "CELL"}], "boundingPoly": [square(10, 50), square(20, 40)],
}]}}}
asset = {"externalId": "a.png", "content": "", "resolution": {"width": WIDTH, "height": HEIGHT}, "latestLabel": label}
job = {"content": {"categories": {"CELL": {"name": "cell"}}}, "tools": ["semantic"], "mlTask": "OBJECT_DETECTION"}
with contextlib.redirect_stdout(io.StringIO()) as said:
    coco = convert_from_kili_to_coco_format({"JOB": job}, [asset], "cells", "IMAGE", None, merged=False)
    yolo = convert_from_kili_to_yolo_format(
        "JOB", label, {"JOB__CELL": JobCategory(category_name="CELL", id=0, job_id="JOB")}, task="segment")

annotation, = coco["annotations"]
codes = mask.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
pixels = int(mask.area(mask.merge(codes)))
line, = yolo
corners = np.array(line[1:]).reshape(-1, 2) * (WIDTH * 8, HEIGHT * 8)
image = Image.new("L", (WIDTH * 8, HEIGHT * 8))  # eight times as large: Pillow draws the border too
ImageDraw.Draw(image).polygon(corners.round().ravel().tolist(), fill=1)
by_yolo = float(np.asarray(image).sum() / 64)
print(f"kili-formats {version('kili-formats')}: a square of 40×40 with a hole of 20×20, 1200 pixels; COCO: "
      f"{len(codes)} polygons, area {annotation['area']:.0f}, iscrowd {annotation['iscrowd']}, drawn by pycocotools "
      f"{version('pycocotools')}: {pixels}; YOLO: {len(corners)} corners, {by_yolo:.0f}; said: {said.getvalue()!r}")
assert len(codes) == 2 and annotation["iscrowd"] == 0
assert annotation["area"] == 1200
assert pixels == 1600
assert 1200 <= by_yolo < 1250
assert said.getvalue() == ""
PY
venv/bin/python show.py
