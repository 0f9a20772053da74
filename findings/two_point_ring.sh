#!/usr/bin/env bash
# One object of two rings, one of which has two points, as polygon tools write for a stray piece.
# Three COCO readers give three answers, and two of them depend on the order of the rings:
# pycocotools raises or draws nothing, faster-coco-eval reads the whole list as boxes (x, y, w, h) where
# the first ring has four numbers, hotcoco draws nothing. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cat > show.py <<'PY'
import contextlib
import io
import json
from importlib.metadata import version

import faster_coco_eval
import hotcoco
import numpy as np
import pycocotools.coco

STRAY, SQUARE = [5, 5, 25, 25], [30, 10, 40, 10, 40, 20, 30, 20]  # a line, and 100 pixels


def pixels(library, rings):
    """Pixels of an object, or the name of the error."""
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": rings,
             "bbox": [5, 5, 35, 20], "area": 100, "iscrowd": 0}
        ],
    }
    with open("gt.json", "w") as file:
        json.dump(content, file)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = library.COCO("gt.json")
    try:
        return int(np.asarray(coco.annToMask(coco.anns[1])).sum())
    except TypeError as error:
        return f"TypeError: {error}"


libraries = {
    "pycocotools": pycocotools.coco, "faster-coco-eval": faster_coco_eval, "hotcoco": hotcoco,
}
found = {}
for name, library in libraries.items():
    found[name] = [
        pixels(library, rings) for rings in ([STRAY], [STRAY, SQUARE], [SQUARE, STRAY])
    ]
    print(f"{name} {version(name)}: alone {found[name][0]!r}, first {found[name][1]!r}, "
          f"last {found[name][2]!r}")
assert all(str(found["pycocotools"][k]).startswith("TypeError") for k in (0, 1))
assert found["pycocotools"][2] == 100
assert found["faster-coco-eval"] == [625, 965, 100]
assert found["hotcoco"] == [0, 100, 100]
PY
venv/bin/python show.py
