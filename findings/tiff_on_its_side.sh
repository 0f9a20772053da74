#!/usr/bin/env bash
# An uncompressed grey TIFF whose orientation is 6 (stored lying on its side), as scanners write.
# Pillow returns two pictures of one file: opened by its path, the sides are mixed up and the pixels
# in disorder; opened as a file object, or compressed, it is right. OpenCV 5 refuses both files.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93
cat > show.py <<'PY'
from importlib.metadata import version

import cv2
import numpy as np
from PIL import Image

stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
upright = np.rot90(stored, -1)  # what orientation 6 asks for
exif = Image.Exif()
exif[274] = 6
found = {}
for name, options in (("raw", {}), ("deflate", {"compression": "tiff_deflate"})):
    Image.fromarray(stored).save(f"{name}.tif", exif=exif, **options)
    with open(f"{name}.tif", "rb") as file:
        found[name] = [
            np.array_equal(np.asarray(Image.open(source)), upright)
            for source in (f"{name}.tif", file)
        ]
    read = cv2.imread(f"{name}.tif", cv2.IMREAD_GRAYSCALE)
    print(f"{name}: Pillow {version('pillow')} right by path {found[name][0]}, as a file "
          f"{found[name][1]}; OpenCV {cv2.__version__} returns {read}")
    assert read is None
print("Pillow by path, raw:", np.asarray(Image.open("raw.tif")).tolist())
assert found == {"raw": [False, True], "deflate": [True, True]}
PY
venv/bin/python show.py
