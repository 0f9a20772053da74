#!/usr/bin/env bash
# datumaro's COCO export writes every mask without an attribute `is_crowd` as a crowd (iscrowd 1), so that
# trainers drop it and evaluators ignore it; polygons have iscrowd 0. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 datumaro==1.13.12
cat > show.py <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

import datumaro
import numpy as np

mask = np.zeros((48, 64), np.uint8)
mask[5:25, 5:25] = 1
item = datumaro.DatasetItem(
    "a",
    subset="train",
    media=datumaro.Image.from_numpy(np.zeros((48, 64, 3), np.uint8)),
    annotations=[
        datumaro.Mask(image=mask, label=0, id=1, group=1),
        datumaro.Mask(image=mask, label=0, id=2, group=2, attributes={"is_crowd": False}),
        datumaro.Polygon([30, 5, 50, 5, 50, 25], label=0, id=3, group=3),
    ],
)
data = datumaro.Dataset.from_iterable([item], categories=["thing"])
data.export("coco", "coco_instances")
content = json.loads(Path("coco/annotations/instances_train.json").read_text())
mask_, marked, polygon = (a["iscrowd"] for a in sorted(content["annotations"], key=lambda a: a["id"]))
print(f"datumaro {version('datumaro')}: iscrowd {mask_} of a mask, {marked} of a mask with is_crowd False, "
      f"{polygon} of a polygon")
assert (mask_, marked, polygon) == (1, 0, 0)
PY
venv/bin/python show.py
