#!/usr/bin/env bash
# Contours of masks as polygons of a COCO file. scikit-image counts from the middle of the first pixel, COCO
# from its corner: what find_contours gives is a quarter of a pixel off when pycocotools draws it, and of a
# disc of 6 pixels the IoU with itself is 0.88. With 0.5 added it is 1, as with rasterio's shapes. OpenCV's
# findContours goes through the middles of the border pixels: 0.63, and 0.70 with 0.5 added. Each is
# right in its own terms; nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 scikit-image==0.26.0 opencv-python-headless==5.0.0.93 rasterio==1.4.4
cat > show.py <<'PY'
from importlib.metadata import version

import cv2
import numpy as np
import rasterio.features
from pycocotools import mask as coco_mask
from skimage.measure import find_contours

SIDE = 80


def by_skimage(mask, add):
    """Rings of (x, y), the mask padded so that objects at the frame have closed ones."""
    return [contour[:, ::-1] - 1 + add for contour in find_contours(np.pad(mask, 1), 0.5)]


def by_opencv(mask, add):
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour[:, 0] + add for contour in contours]


def by_rasterio(mask, add):
    shapes = rasterio.features.shapes(mask, mask=mask > 0)
    return [np.array(shape["coordinates"][0]) + add for shape, _ in shapes]


def compared(contours, radius, add):
    """How far (x) a drawn disc is from the disc, and their IoU: means of 50 discs."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    moves, ious = [], []
    for _ in range(50):
        cx, cy = random.uniform(30, 40, 2)
        disc = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2).astype(np.uint8)
        rings = [ring.ravel().astype(float).tolist() for ring in contours(disc, add)]
        drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, SIDE, SIDE)))
        moves.append(x[drawn > 0].mean() - x[disc > 0].mean())
        ious.append((drawn & disc).sum() / (drawn | disc).sum())
    return round(float(np.mean(moves)), 2), round(float(np.mean(ious)), 2)


WAYS = {"scikit-image": by_skimage, "opencv-python-headless": by_opencv, "rasterio": by_rasterio}
found = {}
for name, contours in WAYS.items():
    for add in (0.0, 0.5)[: 1 if name == "rasterio" else 2]:
        found[name, add] = [compared(contours, radius, add) for radius in (3, 5, 10)]
        print(f"{name} {version(name)} plus {add}, drawn by pycocotools {version('pycocotools')}: moved by and "
              f"IoU for radii 3, 5, 10: {found[name, add]}")
assert found["scikit-image", 0.0] == [(-0.24, 0.88), (-0.25, 0.93), (-0.25, 0.96)]
assert found["scikit-image", 0.5] == found["rasterio", 0.0] == [(0, 1)] * 3
assert found["opencv-python-headless", 0.0] == [(-0.5, 0.63), (-0.5, 0.77), (-0.5, 0.88)]
assert found["opencv-python-headless", 0.5] == [(0.5, 0.7), (0.5, 0.82), (0.5, 0.91)]
PY
venv/bin/python show.py
