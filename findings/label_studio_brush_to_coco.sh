#!/usr/bin/env bash
# Label Studio's export of brush masks as COCO: a mask in two pieces becomes two objects, a hole is filled,
# and a stroke one pixel wide is gone. Polygons run through the centres of the border pixels, so that
# pycocotools draws 400 pixels as 361. Three objects of 800, 700 and 30 pixels become three of 361, 361 and
# 841, the first with the id 0, which pycocotools takes for "not matched". Nothing is said. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 pycocotools==2.0.11 label-studio-sdk==2.1.2
cat > show.py <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from PIL import Image
from pycocotools import mask

CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="label" toName="image"><Label value="cell"/></BrushLabels>
</View>
"""
HEIGHT, WIDTH = 100, 200
Path("images").mkdir()
Image.new("RGB", (WIDTH, HEIGHT)).save("images/a.png")
truth = np.zeros((3, HEIGHT, WIDTH), np.uint8)
truth[0, 10:30, 10:30] = truth[0, 10:30, 50:70] = 255  # two pieces
truth[1, 50:80, 100:130], truth[1, 60:70, 105:125] = 255, 0  # a hole
truth[2, 90, 150:180] = 255  # a stroke
results = []
for k, one in enumerate(truth):
    rle = mask2rle(one)
    assert np.array_equal(np.reshape(decode_rle(rle), (HEIGHT, WIDTH, 4))[..., 3], one)
    results.append({
        "id": f"r{k}", "type": "brushlabels", "from_name": "label", "to_name": "image",
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": ["cell"]},
    })
annotation = {"id": 1, "completed_by": 1, "was_cancelled": False, "result": results}
tasks = [{"id": 1, "data": {"image": "images/a.png"}, "annotations": [annotation]}]
Path("tasks.json").write_text(json.dumps(tasks))
Converter(CONFIG, ".", download_resources=False).convert("tasks.json", "coco", "BRUSH_TO_COCO", is_dir=False)
objects = json.loads(Path("coco/result_coco.json").read_text())["annotations"]
drawn = [int(mask.area(mask.frPyObjects(a["segmentation"], HEIGHT, WIDTH)).sum()) for a in objects]
before = [int(np.count_nonzero(one)) for one in truth]
print(f"label-studio-sdk {version('label-studio-sdk')}: {len(before)} masks of {before} pixels; as COCO "
      f"{len(objects)} objects, ids {[a['id'] for a in objects]}, areas {[a['area'] for a in objects]}, by "
      f"pycocotools {version('pycocotools')} of {drawn} pixels")
assert before == [800, 700, 30]
assert sorted(drawn) == [361, 361, 841]
assert [a["id"] for a in objects] == [0, 1, 2]
PY
venv/bin/python show.py
