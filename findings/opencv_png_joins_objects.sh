#!/usr/bin/env bash
# OpenCV writes a label map of 32-bit integers, as its own connectedComponents returns it, as a PNG of
# 8 bits, in which 255 stands for all greater numbers: of 300 objects, 46 are one. imwrite returns True, and
# the log has a line on a "fallback". As 16 bits all are kept. OpenCV 5 and 4.14 alike. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > show.py <<'PY'
import cv2
import numpy as np

cells = np.zeros((60, 80), np.uint8)
cells[1::4, 1::4] = 1
count, labels = cv2.connectedComponents(cells)
found = {}
for kind in (labels.dtype, np.dtype(np.uint16)):
    written = cv2.imwrite("labels.png", labels.astype(kind))
    read = cv2.imread("labels.png", cv2.IMREAD_UNCHANGED)
    numbers, pixels = np.unique(read[read > 0], return_counts=True)
    found[str(kind)] = (written, str(read.dtype), len(numbers), int(pixels.max()))
    print(f"OpenCV {cv2.__version__}: {count - 1} objects of one pixel as {kind}: imwrite returns {written}; "
          f"read as {read.dtype}, {len(numbers)} objects, the largest of {pixels.max()} pixels")
assert found == {"int32": (True, "uint8", 255, 46), "uint16": (True, "uint16", 300, 1)}
PY
for version in 5.0.0.93 4.14.0.94; do
    rm -rf venv
    python3 -m venv venv
    venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 opencv-python-headless==$version
    venv/bin/python show.py
done
