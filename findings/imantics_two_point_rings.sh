#!/usr/bin/env bash
# imantics writes a piece of two pixels as a ring of two points, which is no polygon in COCO's format, and
# its polygons run through the centres of the border pixels: pycocotools draws a square of 15×15 as 14×14,
# and raises where the ring of two points is the first of one object. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 imantics==0.1.12
cat > show.py <<'PY'
from importlib.metadata import version

import imantics
import numpy as np
from pycocotools import mask

pixels = np.zeros((48, 64), bool)
pixels[5:20, 5:20] = True
pixels[40, 50:52] = True
rings = imantics.Mask(pixels).polygons().segmentation
lengths = sorted(len(ring) // 2 for ring in rings)
longest = max(rings, key=len)
drawn = int(mask.area(mask.frPyObjects([list(map(float, longest))], 48, 64)[0]))
try:
    mask.frPyObjects([list(map(float, ring)) for ring in sorted(rings, key=len)], 48, 64)
    error = None
except TypeError as raised:
    error = str(raised)
print(f"imantics {version('imantics')}: an object of {pixels.sum()} pixels has rings of {lengths} points; "
      f"pycocotools {version('pycocotools')} draws {drawn} pixels of the larger, of both: {error}")
assert lengths == [2, 4]
assert drawn == 14 * 14
PY
venv/bin/python show.py
