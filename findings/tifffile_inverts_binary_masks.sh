#!/usr/bin/env bash
# tifffile, and with it imageio, writes a boolean mask as a TIFF of one bit whose 0 is said to be white,
# and so Pillow and OpenCV read its negative: of 2000 pixels, 200 of an object, they find 1800, all that is
# background. tifffile, imageio and scikit-image, which read with tifffile, find the 200. With
# photometric="minisblack", and written by Pillow, all agree. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 tifffile==2026.3.3 imageio==2.38.1 scikit-image==0.26.0 opencv-python-headless==5.0.0.93
cat > show.py <<'PY'
from importlib.metadata import version

import cv2
import imageio.v3 as imageio
import numpy as np
import skimage.io
import tifffile
from PIL import Image

mask = np.zeros((40, 50), bool)
mask[5:15, 5:25] = True
WRITERS = {
    "tifffile": lambda: tifffile.imwrite("mask.tif", mask),
    "imageio": lambda: imageio.imwrite("mask.tif", mask),
    "tifffile, minisblack": lambda: tifffile.imwrite("mask.tif", mask, photometric="minisblack"),
    "pillow": lambda: Image.fromarray(mask).save("mask.tif"),
}
READERS = {
    "pillow": lambda: np.asarray(Image.open("mask.tif")),
    "opencv-python-headless": lambda: cv2.imread("mask.tif", cv2.IMREAD_UNCHANGED),
    "tifffile": lambda: tifffile.imread("mask.tif"),
    "imageio": lambda: imageio.imread("mask.tif"),
    "scikit-image": lambda: skimage.io.imread("mask.tif"),
}
print(", ".join(f"{name} {version(name)}" for name in READERS))
found = {}
for writer, write in WRITERS.items():
    write()
    found[writer] = [int(np.count_nonzero(read())) for read in READERS.values()]
    print(f"{mask.sum()} pixels written by {writer}, read by these: {found[writer]}")
assert found["tifffile"] == found["imageio"] == [1800, 1800, 200, 200, 200]
assert found["tifffile, minisblack"] == found["pillow"] == [200] * 5
PY
venv/bin/python show.py
