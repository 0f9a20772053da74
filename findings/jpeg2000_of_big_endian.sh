#!/usr/bin/env bash
# A 16-bit TIFF of big-endian byte order, converted to JPEG 2000 and to PNG by Pillow. In the JPEG 2000
# file the two bytes of each pixel have changed places: 1 has become 256. The PNG is right.
# Exits 1 if that changes.
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

written = [1, 256, 4660, 65535]
pixels = np.tile(np.array(written, np.uint16), (40, 10))
found = {}
for order in "<>":
    tifffile.imwrite("scan.tif", pixels, byteorder=order)
    with Image.open("scan.tif") as scan:
        for kind in ("png", "jp2"):
            scan.save(f"scan.{kind}")
            read = cv2.imread(f"scan.{kind}", cv2.IMREAD_UNCHANGED)  # of another library
            found[order, kind] = read[0, :4].tolist()
            print(f"{order} Pillow {version('pillow')}, mode {scan.mode}, as {kind}: "
                  f"{found[order, kind]}")
assert found["<", "png"] == found[">", "png"] == found["<", "jp2"] == written
assert found[">", "jp2"] == [256, 1, 13330, 65535]
PY
venv/bin/python show.py
