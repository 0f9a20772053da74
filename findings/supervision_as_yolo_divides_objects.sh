#!/usr/bin/env bash
# supervision's YOLO export of masks: an object of two pieces becomes two objects, polygons run through the
# centres of the border pixels, so that pycocotools draws a square of 10×10 as 9×9, and an object of one
# pixel becomes a box of no size in a file of polygons. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 supervision==0.31.2 opencv-python-headless==4.14.0.94
cat > show.py <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy as np
import supervision
from PIL import Image
from pycocotools import mask

HEIGHT, WIDTH = 48, 64
Image.new("RGB", (WIDTH, HEIGHT)).save("a.png")
masks = np.zeros((2, HEIGHT, WIDTH), bool)
masks[0, 5:15, 40:50] = masks[0, 30:40, 45:60] = True  # 100 and 150 pixels
masks[1, 45, 2] = True
found = supervision.Detections(
    xyxy=supervision.mask_to_xyxy(masks).astype(float), mask=masks, class_id=np.zeros(2, int)
)
data = supervision.DetectionDataset(["thing"], ["a.png"], {"a.png": found})
data.as_yolo(annotations_directory_path="labels")
lines = [line.split()[1:] for line in Path("labels/a.txt").read_text().splitlines()]
polygons = [
    (np.array(line, float).reshape(-1, 2) * (WIDTH, HEIGHT)).ravel() for line in lines if len(line) > 4
]
drawn = sorted(int(mask.area(mask.frPyObjects([p], HEIGHT, WIDTH)[0])) for p in polygons)
boxes = [line for line in lines if len(line) == 4]
print(f"supervision {version('supervision')}: 2 objects of 250 and 1 pixels become {len(lines)} lines; "
      f"polygons of {drawn} pixels (pycocotools {version('pycocotools')}), boxes {boxes}")
assert drawn == [9 * 9, 9 * 14]
assert len(boxes) == 1
assert [float(side) for side in boxes[0][2:]] == [0, 0]
PY
venv/bin/python show.py
