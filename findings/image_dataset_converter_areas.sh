#!/usr/bin/env bash
# image-dataset-converter 0.1.0 writes COCO files in which every object has the area of its image, so that all are
# of one size to COCO's evaluation: results with all the small cells and none of the others have APs 1.0, APm 0 and
# APl 0 with the file that it read, and with the one that it wrote -1, -1 and 0.5. Coordinates lose their
# fractions, so that a cell of radius 4 has an IoU of 0.7 with itself, and a crowd region becomes an object, the
# rectangle of its box less a pixel. Nothing is said, at the level INFO. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
# Without its dependencies: one of them, for depth images only, has to be compiled.
venv/bin/pip install -q --disable-pip-version-check --no-deps image-dataset-converter==0.1.0
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 pycocotools==2.0.11 \
  opencv-python-headless==5.0.0.93 shapely==2.2.0 matplotlib==3.11.2 seppl==0.3.1 kasperl==0.0.3 \
  wai-common==0.0.46 wai-logging==0.0.8 fast-opex==0.0.4 python-image-complete==0.0.6 simple-palette-utils==0.0.4 \
  imagesize==2.0.1 defusedxml==0.7.1
cat > show.py <<'PY'
import contextlib
import io
import json
import logging
from argparse import Namespace
from copy import deepcopy
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import numpy as np
from idc.reader.objdet import COCOObjectDetectionReader
from idc.writer.objdet import COCOObjectDetectionWriter
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from seppl import Session
from seppl.io import execute

HEIGHT, WIDTH = 300, 400
SQUARES = [(10, 10, 10), (50, 10, 10), (100, 100, 50), (200, 20, 150)]  # left, top, side
angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
round_cell = (4 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + (30.9, 250.9)).ravel().tolist()


def annotation(number, segmentation, crowd=0):
    run_lengths = masks.frPyObjects(segmentation, HEIGHT, WIDTH)
    run_lengths = run_lengths if crowd else run_lengths[0]
    return {"id": number, "image_id": 1, "category_id": 1, "iscrowd": crowd, "segmentation": segmentation,
            "area": int(masks.area(run_lengths)), "bbox": masks.toBbox(run_lengths).tolist()}


def convert(name, annotations):
    """The file that was read and the one that was written, as pycocotools reads them."""
    folder = Path(name)
    folder.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png")
    (folder / "old.json").write_text(json.dumps({
        "info": {}, "licenses": [{"id": 1, "name": "CC0-1.0", "url": ""}],
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "license": 1}],
        "annotations": annotations, "categories": [{"id": 1, "name": "cell"}],
    }))
    reader, writer = COCOObjectDetectionReader(), COCOObjectDetectionWriter()
    reader.parse_args(["-i", str(folder / "old.json")])
    writer.parse_args(["-o", str(folder / "new")])
    session = Session(options=Namespace(force_batch=False, update_interval=1000), logger=logging.getLogger("session"))
    execute(reader, [], writer, session)
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / "old.json")), COCO(str(folder / "new" / "annotations.json"))


def by_size(truth, results):
    """APs, APm and APl."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(deepcopy(results)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(value), 2) for value in evaluation.stats[3:6]]


said = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=said, force=True)
squares = [annotation(n, [[x, y, x + s, y, x + s, y + s, x, y + s]]) for n, (x, y, s) in enumerate(SQUARES, 1)]
old, new = convert("sizes", squares)
results = [{"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": old.annToRLE(a)} for a in squares[:2]]
areas = [[a["area"] for a in coco.anns.values()] for coco in (old, new)]
aps = [by_size(coco, results) for coco in (old, new)]
print(f"image-dataset-converter {version('image-dataset-converter')}, pycocotools {version('pycocotools')}")
print(f"   areas {areas[0]}, then {areas[1]}; APs, APm and APl {aps[0]}, then {aps[1]}")

triangle = np.pad(np.tri(60, dtype=np.uint8), ((0, HEIGHT - 60), (0, WIDTH - 60)))
counts = [0, *(len(list(run)) for _, run in groupby(triangle.ravel(order="F")))]  # the first pixel is of the crowd
crowd = {"size": [HEIGHT, WIDTH], "counts": counts}
old, new = convert("masks", [annotation(1, [round_cell]), annotation(2, crowd, crowd=1)])
ious = [float(masks.iou([old.annToRLE(old.anns[n])], [new.annToRLE(new.anns[n])], [0]).item()) for n in (1, 2)]
pixels = [[int(masks.area(coco.annToRLE(coco.anns[n]))) for coco in (old, new)] for n in (1, 2)]
print(f"   a cell of radius 4: {pixels[0][0]} pixels, then {pixels[0][1]}, IoU {ious[0]:.2f}")
print(f"   a crowd: {pixels[1][0]} pixels, then {pixels[1][1]}, with iscrowd {new.anns[2]['iscrowd']}")
said = [line for line in said.getvalue().splitlines() if not line.startswith("INFO:")]
print(f"   said, apart from what was read and written: {said}")
assert areas == [[s * s for *_, s in SQUARES], [HEIGHT * WIDTH] * 4]
assert aps == [[1, 0, 0], [-1, -1, 0.5]]
assert round(ious[0], 2) == 0.7 and pixels[1] == [1830, 59 * 59] and new.anns[2]["iscrowd"] == 0
assert said == []
PY
nice -n 10 venv/bin/python -W ignore show.py
