#!/usr/bin/env bash
# superannotate 4.6.2's export_annotation makes a COCO file of annotations in SuperAnnotate's format. For boxes it
# computes the area as width × lower edge - upper edge: the cell of 20×20 pixels is "small" in the first rows of an
# image, "medium" (4200) 200 rows below and "large" (11,800) 600 rows below. Results with all cells but the last have an
# APs of 0.66; with this file an APs of 1 and an APl of 0, as if large cells were missed. The holes of a polygon
# ("exclude") are left out: of 1200 pixels 1600 remain, and the fields bbox and area count the right and the lower
# border too (1681). Nothing is said of either, and the documentation does not mention it. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 superannotate==4.6.2
cat > show.py <<'PY'
import contextlib
import io
import json
from importlib.metadata import version
from pathlib import Path

from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from superannotate import export_annotation

WIDTH, HEIGHT = 400, 800
TOPS = (0, 200, 600)


def instance(kind, **fields):
    return {"type": kind, "classId": 1, "className": "cell", "probability": 100, "groupId": 0, "pointLabels": {},
            "locked": False, "visible": True, "attributes": [], **fields}


def square(low, high):
    return [low, low, high, low, high, high, low, high]


boxes = [instance("bbox", points={"x1": 100, "y1": y, "x2": 120, "y2": y + 20}) for y in TOPS]
ring = instance("polygon", points=square(10, 50), exclude=[square(20, 40)])
source = Path("cells")
(source / "classes").mkdir(parents=True)
(source / "classes" / "classes.json").write_text(
    json.dumps([{"id": 1, "name": "cell", "color": "#ff0000", "attribute_groups": []}]))
for name, instances in (("a.png", boxes), ("b.png", [ring])):
    metadata = {"name": name, "width": WIDTH, "height": HEIGHT, "status": "Completed"}
    (source / f"{name}___objects.json").write_text(
        json.dumps({"metadata": metadata, "instances": instances, "tags": [], "comments": []}))


def exported(task):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        export_annotation(str(source), task, "COCO", "cells", "Vector", task)
    lines = {line.split("\r")[-1] for line in said.getvalue().splitlines()}
    lines = {line for line in lines if line and "it/s]" not in line and not line.startswith("Skipping '")}
    return f"{task}/cells.json", lines


def precisions(path, areas):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        for annotation in truth.dataset["annotations"]:
            annotation["area"] = areas.get(annotation["id"], annotation["area"])
        found = truth.loadRes([{"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"],
                                "score": 0.9} for a in truth.dataset["annotations"] if a["bbox"][1] != TOPS[-1]])
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(v), 2) for v in evaluation.stats[[0, 3, 4, 5]]]


path, said = exported("object_detection")
written = json.loads(Path(path).read_text())["annotations"]
areas = {a["bbox"][1]: a["area"] for a in written}
assert all(a["bbox"][2:] == [20, 20] for a in written)
by_file = precisions(path, {})
right = precisions(path, {a["id"]: 400 for a in written})
print(f"superannotate {version('superannotate')}: boxes of 20×20 pixels at rows {list(areas)}: areas "
      f"{list(areas.values())}; AP, APs, APm, APl {by_file}, with areas of 400 {right}; said: {sorted(said)}")

path, said_of_ring = exported("instance_segmentation")
outline, = json.loads(Path(path).read_text())["annotations"]
codes = mask.frPyObjects(outline["segmentation"], HEIGHT, WIDTH)
pixels = int(mask.area(mask.merge(codes)))
print(f"   a square of 40×40 with a hole of 20×20: {len(codes)} polygon, {pixels} pixels by pycocotools, bbox "
      f"{outline['bbox']}, area {outline['area']}; said: {sorted(said_of_ring)}")
assert areas == {0: 400, 200: 4200, 600: 11800}
assert right == [0.66, 0.66, -1, -1]
assert by_file == [0.66, 1, 1, 0]
assert (len(codes), pixels, outline["area"], outline["bbox"]) == (1, 1600, 1681, [10, 10, 41, 41])
assert not said and not said_of_ring
PY
SA_VERSION_CHECK=false venv/bin/python show.py
