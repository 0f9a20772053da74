#!/usr/bin/env bash
# dagshub-annotation-converter 0.3.0 reads a COCO file and writes it again (load_coco_from_file,
# export_to_coco_file). Each object comes back twice: as a box without "segmentation", under its old id, and as
# polygons without "bbox", under a new one. A crowd region, which has run lengths, becomes a box that is no crowd,
# with a warning about run lengths. An image without objects is gone, and the others have new ids. Results that have
# the objects exactly have an AP of 1 with the old file, of boxes and of masks; with the new one pycocotools raises
# KeyError for either, as half of the objects have no box and the others no mask. Nothing else is said, and the
# documentation lists COCO as supported both ways. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 \
  dagshub-annotation-converter==0.3.0
cat > show.py <<'PY'
import contextlib
import io
import json
import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np
from dagshub_annotation_converter.converters.coco import export_to_coco_file, load_coco_from_file
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 80, 100


def square(x, y, side=20):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(number, polygons, box, area):
    return {"id": number, "image_id": 7, "category_id": 1, "bbox": box, "area": area, "iscrowd": 0,
            "segmentation": polygons}


crowd = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
crowd[50:70, 10:90] = 1
runs = mask.encode(crowd)
runs["counts"] = runs["counts"].decode()
before = {
    "images": [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
               {"id": 8, "file_name": "b.png", "width": WIDTH, "height": HEIGHT}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": [annotation(1, [square(10, 10)], [10, 10, 20, 20], 400),
                    annotation(2, [square(40, 10), square(70, 10)], [40, 10, 50, 20], 800),
                    annotation(3, runs, [10, 50, 80, 20], 1600) | {"iscrowd": 1}],
}
Path("before.json").write_text(json.dumps(before))
said = io.StringIO()
logging.basicConfig(stream=said, level=logging.INFO, format="%(message)s")
images, context = load_coco_from_file("before.json")
export_to_coco_file([a for found in images.values() for a in found], "after.json", context)
after = json.loads(Path("after.json").read_text())


def precision(path, kind, image):
    """AP of results with the two objects found exactly, or what pycocotools raises."""
    results = [{"image_id": image, "category_id": 1, "score": 0.9,
                "bbox": a["bbox"], "segmentation": mask.merge(mask.frPyObjects(a["segmentation"], HEIGHT, WIDTH))}
               for a in before["annotations"][:2]]
    for result in results:
        del result["segmentation" if kind == "bbox" else "bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        try:
            evaluation.evaluate()
        except Exception as error:
            return type(error).__name__
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 2)


objects = [(a["id"], a["iscrowd"], "bbox" in a, "segmentation" in a) for a in after["annotations"]]
aps = {kind: (precision("before.json", kind, 7), precision("after.json", kind, 1)) for kind in ("bbox", "segm")}
print(f"dagshub-annotation-converter {version('dagshub-annotation-converter')}: of 2 objects, a crowd and 2 images: "
      f"{len(objects)} objects (id, iscrowd, has a box, has a segmentation) {objects}, images "
      f"{[(i['id'], i['file_name']) for i in after['images']]}; AP before and after: {aps}; said: {said.getvalue()!r}")
assert objects == [(1, 0, True, False), (2, 0, True, False), (3, 0, True, False), (4, 0, False, True),
                   (5, 0, False, True)]
assert [(i["id"], i["file_name"]) for i in after["images"]] == [(1, "a.png")]
assert said.getvalue().count("\n") == 1 and "RLE" in said.getvalue()
assert aps == {kind: (1, "KeyError") for kind in ("bbox", "segm")}
PY
venv/bin/python show.py
