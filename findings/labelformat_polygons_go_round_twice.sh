#!/usr/bin/env bash
# labelformat makes instances of mask images (maskpair), as YOLO labels or COCO polygons. Each outline goes round
# its object twice, so that what fills by counting crossings leaves the inside empty: of objects of 400 and 1200
# pixels, pycocotools draws none, OpenCV and Pillow just the outlines, 76 and 136. Once round, OpenCV and Pillow
# draw them exactly. Its run lengths are right, but marked as crowds. Nothing is said. (Its COCO annotations have
# no ids either, so that pycocotools' COCO class raises KeyError.) Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 pycocotools==2.0.11 \
  opencv-python-headless==5.0.0.93 labelformat==0.1.17
cat > make.py <<'PY'
from pathlib import Path

import numpy as np
from PIL import Image

pixels = np.zeros((96, 128), np.uint8)
pixels[10:30, 10:30] = 255
pixels[50:80, 60:100] = 255
for name in ("images", "masks"):
    Path(name).mkdir()
    Image.fromarray(pixels).save(f"{name}/a.png")
PY
venv/bin/python make.py
convert() {
  venv/bin/labelformat convert --task instance-segmentation --input-format maskpair --image-glob 'images/*.png' \
    --mask-glob 'masks/*.png' --category-names cell "$@" 2>> said
}
convert --output-format yolov8 --output-file yolo/data.yaml --output-split train
convert --output-format coco --output-file polygons.json
convert --output-format coco --output-file run_lengths.json --segmentation-type rle
cat > show.py <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask

HEIGHT, WIDTH = 96, 128


def by_opencv(corners):
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    return int(cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 1).sum())


def by_pillow(corners):
    image = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).polygon(corners.round().ravel().tolist(), fill=1)
    return int(np.asarray(image).sum())


def by_pycocotools(corners):
    return int(mask.area(mask.frPyObjects([corners.ravel().tolist()], HEIGHT, WIDTH))[0])


def annotations(name):
    return json.loads(Path(name).read_text())["annotations"]


yolo = [np.array(line.split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
        for line in Path("yolo/labels/a.txt").read_text().splitlines()]
coco = [np.array(a["segmentation"][0]).reshape(-1, 2) for a in annotations("polygons.json")]
once = [corners[: len(corners) // 2] for corners in coco]
runs = [(sum(a["segmentation"]["counts"][1::2]), bool(a["iscrowd"])) for a in annotations("run_lengths.json")]
print(f"labelformat {version('labelformat')}: objects of 400 and 1200 pixels")
drawn = {}
for kind, outlines in (("yolo", yolo), ("coco", coco), ("once", once)):
    for draw in (by_opencv, by_pillow, by_pycocotools):
        drawn[kind, draw] = [draw(corners) for corners in outlines]
        print(f"   {kind} {draw.__name__}: {drawn[kind, draw]} pixels of {[len(c) for c in outlines]} corners")
said = set(Path("said").read_text().splitlines())
print(f"   as run lengths, and whether they are crowds: {runs}; said: {sorted(said)}")
assert all(np.array_equal(corners[: len(o)], o) and np.array_equal(corners[len(o):], o)
           for corners, o in zip(coco, once, strict=True))
for kind in ("yolo", "coco"):
    assert drawn[kind, by_opencv] == drawn[kind, by_pillow] == [76, 136]
    assert drawn[kind, by_pycocotools] == [0, 0]
assert drawn["once", by_opencv] == drawn["once", by_pillow] == [400, 1200]
assert runs == [(400, True), (1200, True)]
assert not any("id" in a for name in ("polygons.json", "run_lengths.json") for a in annotations(name))
assert said == {"Loading labels...", "Converting labels...", "Done!"}
PY
venv/bin/python show.py
