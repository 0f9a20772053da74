#!/usr/bin/env bash
# globox 2.9.0 evaluates detections as COCO does. The table of each class, which save_csv writes and show_summary
# prints, has the columns "AR 1", "AR 10" and "AR 100", the recall with 1, 10 and 100 detections per image. They hold
# the AP at those numbers: of a class whose 4 cells are all found, below 8 false ones, AR 100 is 0.33 where 1 is right
# and AR 10 is 0.10 where 0.5 is; of one without a false one, AR 1 is 0.26 where 0.25 is right. pycocotools has the
# right numbers, and so has globox for all classes together, in the last row of the same table, so that this is not the
# mean of the rows above it. AR S, M and L are right too. The documentation shows the table, shortened, and says no more.
# Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check globox==2.9.0 numpy==2.4.6 pycocotools==2.0.11
cat > show.py <<'PY'
import contextlib
import csv
import io
import warnings
from importlib.metadata import version

import numpy as np
from globox import Annotation, AnnotationSet, BoundingBox, BoxFormat, COCOEvaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

warnings.simplefilter("error")
print(f"globox {version('globox')}, pycocotools {version('pycocotools')}")
names = ["cell", "nucleus"]
truth = [("cell", 30 * i, 10) for i in range(4)] + [("nucleus", 30 * i, 100) for i in range(4)]
results = [(*t, 0.5 if t[0] == "cell" else 0.9) for t in truth]
results += [("cell", 30 * i, 200, 0.9) for i in range(8)]  # false ones, surer than the right ones


def annotations(boxes):
    made = [BoundingBox.create(label=b[0], coords=(b[1], b[2], 20, 20), box_format=BoxFormat.LTWH,
                               confidence=b[3] if len(b) == 4 else None) for b in boxes]
    return AnnotationSet([Annotation("image", image_size=(500, 500), boxes=made)])


evaluator = COCOEvaluator(ground_truths=annotations(truth), predictions=annotations(results))
evaluator.save_csv("table.csv")
with open("table.csv", newline="") as file:
    table = {row["label"]: {k: float(v) for k, v in row.items() if k != "label"} for row in csv.DictReader(file)}
total = {"AP 50:95": evaluator.ap(), "AR 1": evaluator.ar_1(), "AR 10": evaluator.ar_10(), "AR 100": evaluator.ar_100(),
         "AR S": evaluator.ar_small()}

with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO()
    coco.dataset = {"images": [{"id": 1, "width": 500, "height": 500}],
                    "categories": [{"id": k, "name": n} for k, n in enumerate(names, 1)],
                    "annotations": [{"id": k, "image_id": 1, "category_id": names.index(t[0]) + 1, "iscrowd": 0,
                                     "bbox": [t[1], t[2], 20, 20], "area": 400} for k, t in enumerate(truth, 1)]}
    coco.createIndex()
    found = [{"image_id": 1, "category_id": names.index(r[0]) + 1, "bbox": [r[1], r[2], 20, 20], "score": r[3]}
             for r in results]
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
recall, precision = evaluation.eval["recall"], evaluation.eval["precision"]  # [T, K, A, M], [T, R, K, A, M]


def right(kind):
    """What pycocotools has for one class (or all, with a slice)."""
    return {"AP 50:95": precision[:, :, kind, 0, 2].mean(), "AR 1": recall[:, kind, 0, 0].mean(),
            "AR 10": recall[:, kind, 0, 1].mean(), "AR 100": recall[:, kind, 0, 2].mean(),
            "AR S": recall[:, kind, 1, 2].mean()}


wrong = {}
for name, row, kind in (("cell", table["cell"], 0), ("nucleus", table["nucleus"], 1), ("all classes", total, slice(2))):
    want = right(kind)
    for column, value in want.items():
        print(f"   {name}, {column}: globox {row[column]:.3f}, pycocotools {value:.3f}")
        if not np.isclose(row[column], value):
            wrong[name, column] = [round(float(row[column]), 3), round(float(value), 3)]
assert wrong == {("cell", "AR 10"): [0.101, 0.5], ("cell", "AR 100"): [0.333, 1.0], ("nucleus", "AR 1"): [0.257, 0.25]}
PY
venv/bin/python show.py
