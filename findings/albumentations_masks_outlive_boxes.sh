#!/usr/bin/env bash
# albumentations leaves out the boxes (and labels) of objects that a crop removes, but not their masks: two
# masks come back with one box. Paired by position, as COCO training does, an object gets the mask of
# another. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check albumentations==2.0.8 numpy==2.4.6
cat > show.py <<'PY'
import sys
import warnings
from importlib.metadata import version

import numpy as np

warnings.simplefilter("ignore")
import albumentations as A  # noqa: E402

masks = np.zeros((2, 100, 100), np.uint8)
masks[0, 10:20, 10:20] = masks[1, 50:90, 50:90] = 1
boxes = A.BboxParams("pascal_voc", label_fields=["labels"])
crop = A.Compose([A.Crop(40, 40, 100, 100)], bbox_params=boxes)
found = crop(
    image=np.zeros((100, 100, 3), np.uint8),
    masks=masks,
    bboxes=[[10, 10, 20, 20], [50, 50, 90, 90]],
    labels=["left", "right"],
)
areas = [int(mask.sum()) for mask in found["masks"]]
print(f"boxes {np.round(found['bboxes']).tolist()}, labels {list(found['labels'])}, areas of masks {areas}")
print("albumentations", version("albumentations"))
sys.exit(not (len(found["bboxes"]) == 1 and list(found["labels"]) == ["right"] and areas == [0, 1600]))
PY
venv/bin/python show.py
