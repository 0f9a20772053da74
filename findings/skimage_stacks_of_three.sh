#!/usr/bin/env bash
# A TIFF of several pages, as microscopes write slices or time points and tools their label maps. Stacks of
# 2 and of 5 pages come out of scikit-image's imread with the pages first; of 3 and of 4 with the pages
# last, as if they were colours, so that the first "page" is one row of each. tifffile and imageio have the
# pages first. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 imageio==2.38.1 scikit-image==0.26.0
cat > show.py <<'PY'
from importlib.metadata import version

import imageio.v3 as imageio
import numpy as np
import skimage.io
import tifffile

found = {}
for pages in (2, 3, 4, 5):
    labels = np.zeros((pages, 40, 50), np.uint16)
    for page in range(pages):
        labels[page, 10:20, 10:20] = 1 + page
    tifffile.imwrite("labels.tif", labels, photometric="minisblack")
    with tifffile.TiffFile("labels.tif") as file:
        assert len(file.pages) == pages
    stack = skimage.io.imread("labels.tif")
    found[pages] = stack.shape, int(stack[0].max())
    print(f"{pages} pages of 40×50: scikit-image {version('scikit-image')} {stack.shape}, numbers in its first "
          f"page {np.unique(stack[0]).tolist()}; tifffile {version('tifffile')} {tifffile.imread('labels.tif').shape}, "
          f"imageio {version('imageio')} {imageio.imread('labels.tif').shape}")
    assert np.array_equal(tifffile.imread("labels.tif"), labels)
    assert np.array_equal(imageio.imread("labels.tif"), labels)
assert found == {2: ((2, 40, 50), 1), 3: ((40, 50, 3), 0), 4: ((40, 50, 4), 0), 5: ((5, 40, 50), 1)}
PY
venv/bin/python show.py
