#!/usr/bin/env bash
# LabelMe's AI tool can make masks: two corners and a small image. labelme2yolo's format for segmentation,
# "polygon", writes just the two corners. Those 5 numbers of a line are a box in YOLO's terms, with its middle at
# the first corner: supervision reads a disc of 317 pixels as a box of 110×30 that begins outside the image, and
# fills it. With "bbox", the default, the box is right to a pixel. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 \
  opencv-python-headless==5.0.0.93 supervision==0.31.2 labelme2yolo==0.4.0
cat > make.py <<'PY'
import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 160, 96
rows, columns = np.mgrid[:21, :21]
disc = (columns - 10) ** 2 + (rows - 10) ** 2 <= 100
png = io.BytesIO()
Image.fromarray(disc).save(png, "PNG")
common = {"label": "cell", "group_id": None, "flags": {}}
shapes = [
    common | {"shape_type": "polygon", "points": [[10, 50], [30, 50], [30, 80], [10, 80]]},
    common | {"shape_type": "mask", "points": [[90, 10], [110, 30]],
              "mask": base64.b64encode(png.getvalue()).decode()},
]
Path("labelme").mkdir()
Image.new("RGB", (WIDTH, HEIGHT)).save("labelme/a.png")
Path("labelme/a.json").write_text(json.dumps({
    "version": "6.3.1", "flags": {}, "shapes": shapes, "imagePath": "a.png", "imageData": None,
    "imageWidth": WIDTH, "imageHeight": HEIGHT,
}))
PY
venv/bin/python make.py
for format in polygon bbox; do
  venv/bin/labelme2yolo --json_dir labelme --output_dir "$format" --output_format "$format" --val_size 0 2>> said
done
cat > show.py <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy as np
from supervision import DetectionDataset


def read(folder):
    """The numbers of the second line, and what supervision makes of it."""
    label, = Path(folder, "labels", "train").glob("*.txt")
    data = DetectionDataset.from_yolo(f"{folder}/images/train", f"{folder}/labels/train", f"{folder}/dataset.yaml")
    (_, _, found), = data
    pixels = None if found.mask is None else int(found.mask[1].sum())
    return label.read_text().splitlines()[1].split()[1:], found.xyxy.round(1).tolist(), pixels


print(f"labelme2yolo {version('labelme2yolo')}: a polygon, and a mask of 317 pixels in columns 90–110, rows 10–30")
seen = {folder: read(folder) for folder in ("polygon", "bbox")}
for folder, (numbers, boxes, pixels) in seen.items():
    print(f"   {folder}: {' '.join(numbers)}; by supervision {version('supervision')}: {boxes[1]}, {pixels} pixels")
said = [line for line in Path("said").read_text().splitlines() if " INFO " not in line]
print(f"   said, apart from what was done: {said}")
numbers, boxes, pixels = seen["polygon"]
assert np.allclose(np.array(numbers, float), [90 / 160, 10 / 96, 110 / 160, 30 / 96], atol=1e-5)
assert np.allclose(boxes, [[10, 50, 30, 80], [35, -5, 145, 25]], atol=0.1)
assert pixels > 2500
assert np.allclose(seen["bbox"][1], [[10, 50, 30, 80], [90, 10, 110, 30]], atol=0.1)
assert said == []
PY
venv/bin/python show.py
