#!/usr/bin/env bash
# vernier 0.5.4 stands in for pycocotools' COCOeval; its default mode, "strict", is said to be bit-identical to
# pycocotools 2.0.11, and useCats is a parameter that it honours. With useCats = 0, for the AP without regard to
# classes, it takes detections of the same score in an image in the order of the file, and pycocotools sorts them by
# the class first. So of ties, as models in int8 or with rounded scores have them, other ones count as right: of one
# object found by a detection of class 1, and missed by one of class 2 that has the same score and stands before it,
# the AP is 0.5 with vernier and 1.0 with pycocotools. Over 200 images with scores rounded to tenths the two differ;
# with scores as they are and with useCats = 1 all numbers are the same. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 vernier==0.5.4
cat > show.py <<'PY'
import contextlib
import io
import warnings
from importlib.metadata import version

import numpy as np
import pycocotools.cocoeval
import vernier
from pycocotools.coco import COCO


def stats(evaluator, truth, results, use_classes):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = evaluator(coco, coco.loadRes([dict(r) for r in results]), "bbox")
        evaluation.params.useCats = use_classes
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array(evaluation.stats)


def both(truth, results, use_classes):
    return [stats(e, truth, results, use_classes) for e in (pycocotools.cocoeval.COCOeval, vernier.COCOeval)]


def truth_of(boxes, images):
    """Boxes: image, class, box."""
    return {"images": [{"id": i, "width": 100, "height": 100} for i in range(1, images + 1)],
            "categories": [{"id": c, "name": f"kind {c}"} for c in (1, 2, 3)],
            "annotations": [{"id": n, "image_id": image, "category_id": kind, "bbox": box, "iscrowd": 0,
                             "area": box[2] * box[3]} for n, (image, kind, box) in enumerate(boxes, 1)]}


warnings.simplefilter("error")
print(f"vernier {version('vernier')}, pycocotools {version('pycocotools')}")
truth = truth_of([(1, 1, [10, 10, 40, 40])], 1)
wrong = {"image_id": 1, "category_id": 2, "bbox": [60, 60, 20, 20], "score": 0.9}
right = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}
seen = {}
for name, results in (("right one first", [right, wrong]), ("wrong one first", [wrong, right])):
    theirs, ours = both(truth, results, 0)
    seen[name] = [round(float(s[0]), 3) for s in (theirs, ours)]
    print(f"   one object, two detections with a score of 0.9, {name}: AP by pycocotools and vernier {seen[name]}")
assert seen == {"right one first": [1, 1], "wrong one first": [1, 0.5]}

random = np.random.default_rng(0)
boxes, results = [], []
for image in range(1, 201):
    for _ in range(4):
        box = [float(v) for v in random.uniform([0, 0, 15, 15], [60, 60, 40, 40])]
        kind = int(random.integers(1, 4))
        boxes.append((image, kind, box))
        for _ in range(2):
            moved = [float(v) for v in np.array(box) + random.normal(0, 4, 4)]
            results.append({"image_id": image, "category_id": kind if random.random() < 0.7 else 1 + kind % 3,
                            "bbox": [max(v, 1.0) for v in moved], "score": float(random.random())})
truth = truth_of(boxes, 200)
rounded = [{**r, "score": round(r["score"], 1)} for r in results]
differences = {}
for scores, given in (("as they are", results), ("rounded to tenths", rounded)):
    for use_classes in (1, 0):
        theirs, ours = both(truth, given, use_classes)
        differences[scores, use_classes] = float(abs(theirs - ours).max())
        print(f"   200 images, scores {scores}, useCats = {use_classes}: AP {theirs[0]:.4f} and {ours[0]:.4f}, "
              f"greatest difference of the twelve numbers {differences[scores, use_classes]:.4f}")
assert [d > 0 for d in differences.values()] == [False, False, False, True]
PY
venv/bin/python show.py
