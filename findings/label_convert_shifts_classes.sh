#!/usr/bin/env bash
# label_convert 0.3.0 makes a COCO file of YOLO labels (yolov8_to_coco, with a YAML file of names). It numbers the
# categories from 0 and the objects' classes from 1: each object has the name of the class after its own, and those
# of the last class have one that the file does not list. Polygons are written as [[x, y], [x, y], ...], which is
# none of COCO's forms, so that pycocotools raises on each. With the points in a row, as COCO has them, the masks
# are right, but "area" is that of the box: 3600 for 1575 pixels. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 opencv-python-headless==5.0.0.93 \
  pycocotools==2.0.11 tqdm==4.70.1 PyYAML==6.0.4
venv/bin/pip install -q --disable-pip-version-check --no-deps label-convert==0.3.0  # its OpenCV needs a display
cat > make.py <<'PY'
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 200, 100
BENT = [(10, 10), (70, 10), (70, 25), (25, 25), (25, 70), (10, 70)]
Path("data.yaml").write_text("names:\n  0: ant\n  1: bee\n  2: cat\n")
for mode in ("train", "val"):
    for name in ("images", "labels"):
        Path(f"data/{name}/{mode}").mkdir(parents=True)
    cv2.imwrite(f"data/images/{mode}/a.jpg", np.full((HEIGHT, WIDTH, 3), 99, np.uint8))
    lines = (f"{n} " + " ".join(f"{(x + 60 * n) / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in BENT) for n in range(3))
    Path(f"data/labels/{mode}/a.txt").write_text("\n".join(lines) + "\n")  # an ant, a bee and a cat
PY
venv/bin/python make.py
venv/bin/yolov8_to_coco --data_dir data --save_dir coco --yaml_path data.yaml > said 2> progress
cat > show.py <<'PY'
import contextlib
import io
import json
from importlib.metadata import version
from pathlib import Path

from pycocotools import mask
from pycocotools.coco import COCO

path = "coco/annotations/instances_train2017.json"
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(path)
names = {key: category["name"] for key, category in coco.cats.items()}
objects = sorted(coco.anns.values(), key=lambda a: a["bbox"][0])
found = [names.get(a["category_id"]) for a in objects]
raised = []
for a in objects:
    try:
        coco.annToMask(a)
    except Exception as error:
        raised.append(f"{type(error).__name__}: {error}")
in_a_row = [sum(a["segmentation"], []) for a in objects]
pixels = [int(mask.area(mask.frPyObjects([row], 100, 200))[0]) for row in in_a_row]
print(f"label_convert {version('label-convert')}: categories {names}, of an ant, a bee and a cat: {found}")
print(f"   segmentation {objects[0]['segmentation'][:3]}..., pycocotools raises {sorted(set(raised))}")
print(f"   pixels with the points in a row {pixels}, area {[a['area'] for a in objects]}")
print(f"   said: {Path('said').read_text().strip()}")
assert names == {0: "ant", 1: "bee", 2: "cat"} and found == ["bee", "cat", None]
assert len(raised) == 3 and pixels == [1575] * 3 and [a["area"] for a in objects] == [3600] * 3
assert "warn" not in (Path("said").read_text() + Path("progress").read_text()).lower()
PY
venv/bin/python show.py
