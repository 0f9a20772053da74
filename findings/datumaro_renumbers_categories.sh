#!/usr/bin/env bash
# datumaro reads a COCO file and writes it with the image ids that it had and with other category ids: 1, 2,
# 3 for 1, 3, 4, which have a gap as COCO's own have. Results of a model of the old file are read with the
# new one without an error, as other classes: perfect ones have a mask AP of 1.0 with the old file and of
# 0.33 with the new one. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 datumaro==1.13.12
cat > show.py <<'PY'
import contextlib
import io
import json
from importlib.metadata import version
from pathlib import Path

import datumaro
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Path("old/images/train").mkdir(parents=True)
Path("old/annotations").mkdir()
Image.new("RGB", (80, 60)).save("old/images/train/a.png")
ids = {"ant": 1, "bee": 3, "cat": 4}
content = {
    "images": [{"id": 7, "file_name": "a.png", "width": 80, "height": 60}],
    "categories": [{"id": i, "name": name, "supercategory": ""} for name, i in ids.items()],
    "annotations": [
        {"id": k, "image_id": 7, "category_id": i, "bbox": [20 * k - 15, 5, 10, 10], "area": 100,
         "iscrowd": 0, "segmentation": [[20 * k - 15, 5, 20 * k - 5, 5, 20 * k - 5, 15, 20 * k - 15, 15]]}
        for k, i in enumerate(ids.values(), start=1)
    ],
}
OLD, NEW = (Path(name, "annotations/instances_train.json") for name in ("old", "new"))
OLD.write_text(json.dumps(content))
datumaro.Dataset.import_from("old", "coco_instances").export("new", "coco_instances", save_media=True)

found = {}
for path in (OLD, NEW):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        before = COCO(str(OLD))
        results = truth.loadRes(
            [{"image_id": 7, "category_id": a["category_id"], "score": 0.9,
              "segmentation": before.annToRLE(a)} for a in content["annotations"]]
        )
        evaluation = COCOeval(truth, results, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = {c["name"]: c["id"] for c in truth.loadCats(truth.getCatIds())}
    found[path] = names, truth.getImgIds(), round(float(evaluation.stats[0]), 2)
    print(f"{path}: categories {names}, images {truth.getImgIds()}, mask AP of perfect results "
          f"{found[path][2]} (datumaro {version('datumaro')}, pycocotools {version('pycocotools')})")
assert found == {
    OLD: (ids, [7], 1.0),
    NEW: ({"ant": 1, "bee": 2, "cat": 3}, [7], 0.33),
}
PY
venv/bin/python show.py
