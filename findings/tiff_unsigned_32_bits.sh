#!/usr/bin/env bash
# A TIFF of unsigned 32-bit integers, as microscopes and label maps have. Pillow returns the numbers
# from 2**31 on as negative ones; tifffile and OpenCV return them. Exits 1 if that changes.
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

written = [0, 2**31 - 1, 2**31, 2**32 - 1]
tifffile.imwrite("counts.tif", np.array([written], np.uint32))
found = {
    "pillow": np.asarray(Image.open("counts.tif"))[0].tolist(),
    "tifffile": tifffile.imread("counts.tif")[0].tolist(),
    "opencv-python-headless": cv2.imread("counts.tif", cv2.IMREAD_UNCHANGED)[0].tolist(),
}
for name, numbers in found.items():
    print(f"{name} {version(name)}: {numbers}")
assert found["pillow"] == [0, 2**31 - 1, -(2**31), -1]
assert found["tifffile"] == found["opencv-python-headless"] == written
PY
venv/bin/python show.py
