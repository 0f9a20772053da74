#!/usr/bin/env bash
# faster-coco-eval has two backends for the boundaries of boundary AP. Where 2 % of the diagonal ends in
# .5 after an odd number (225×300: 7.5) the default one draws a band one pixel narrower than its OpenCV
# one, which rounds as the metric's authors do; the evaluator takes the default one. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 opencv-python-headless==5.0.0.93 faster-coco-eval==1.8.0
cat > show.py <<'PY'
import sys

import numpy as np
from faster_coco_eval.core.mask import rleToBoundary
from pycocotools import mask


def band(backend, height, width):
    code = mask.encode(np.ones((height, width), np.uint8, order="F"))
    middle = mask.decode(rleToBoundary(code, 0.02, backend=backend))[:, width // 2]
    return int(middle.argmin())  # rows from the frame to the first pixel that is no boundary


print("height×width   2 % of the diagonal   pixels: mask_api, opencv")
found = {}
for height, width in ((225, 300), (300, 225), (165, 220), (135, 180), (480, 640)):
    found[height, width] = pair = band("mask_api", height, width), band("opencv", height, width)
    print(f"{height}×{width}   {0.02 * np.hypot(height, width)}   {pair}")
expected = {
    (225, 300): (7, 8),
    (300, 225): (7, 8),
    (165, 220): (5, 6),
    (135, 180): (4, 4),
    (480, 640): (16, 16),
}
sys.exit(found != expected)
PY
venv/bin/python show.py
