#!/usr/bin/env bash
# Grey TIFFs whose 0 is white (PhotometricInterpretation 0), as X-ray and fax software writes, in 8
# and in 16 bits. Pillow and OpenCV turn the 8 bits around and leave the 16 bits, which come out as a
# negative; tifffile turns neither. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 tifffile==2026.3.3 opencv-python-headless==5.0.0.93
cat > show.py <<'PY'
from importlib.metadata import version

import cv2
import numpy as np
import tifffile
from PIL import Image

for kind in (np.uint8, np.uint16):
    white = np.zeros((8, 8), kind)
    tifffile.imwrite("white.tif", white, photometric="miniswhite")
    found = {
        "pillow": int(np.asarray(Image.open("white.tif"))[0, 0]),
        "opencv-python-headless": int(cv2.imread("white.tif", cv2.IMREAD_UNCHANGED)[0, 0]),
        "tifffile": int(tifffile.imread("white.tif")[0, 0]),
    }
    for name, value in found.items():
        print(f"{name} {version(name)}: white of {kind.__name__} is read as {value}")
    turned = 255 if kind is np.uint8 else 0
    assert found == {"pillow": turned, "opencv-python-headless": turned, "tifffile": 0}
PY
venv/bin/python show.py
