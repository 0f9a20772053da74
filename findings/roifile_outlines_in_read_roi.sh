#!/usr/bin/env bash
# Outlines of cells, written as ImageJ ROIs by roifile and read by read-roi, which knows subpixel coordinates only
# if their option is the sole one. roifile's frompoints sets two more, so that read-roi takes the rounded copy of
# the numbers: a cell of radius 3.5 has an IoU of 0.90 with itself. That copy has 16 bits: in a slide wider than
# 65,536 pixels, a cell beyond comes out 65,536 to the left, where another may be. roifile reads all as it was.
# Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 shapely==2.2.0 roifile==2026.2.10 read-roi==1.6.0
cat > show.py <<'PY'
from importlib.metadata import version

import numpy as np
from read_roi import read_roi_file
from roifile import ROI_OPTIONS, ImagejRoi
from shapely.geometry import Polygon

angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
circle = 3.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def read():
    roi = read_roi_file("cell.roi")["cell"]
    return np.stack([roi["x"], roi["y"]], axis=1)


def iou(a, b):
    a, b = Polygon(a), Polygon(b)
    return a.intersection(b).area / a.union(b).area


print(f"roifile {version('roifile')}, read-roi {version('read-roi')}: a circle of radius 3.5")
results = []
for x in (20.3, 4484.3, 4484.3 + 65536):
    outline = circle + (x, 20.3)
    roi = ImagejRoi.frompoints(outline, name="cell")
    options = roi.options
    roi.tofile("cell.roi")
    same, other = ImagejRoi.fromfile("cell.roi").coordinates(), read()
    roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    roi.tofile("cell.roi")
    alone = read()
    results.append((other, [iou(outline, o) for o in (same, other, alone)]))
    print(f"   at x={x:g}: options {int(options)}; by roifile it is at x={same[:, 0].mean():.1f}, IoU "
          f"{results[-1][1][0]:.3f}; by read-roi at {other[:, 0].mean():.1f}, {results[-1][1][1]:.3f}; the same with "
          f"that option alone at {alone[:, 0].mean():.1f}, {results[-1][1][2]:.3f}")
    assert ROI_OPTIONS.SUB_PIXEL_RESOLUTION in options and options != ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    assert np.allclose(same, outline, atol=0.01) and np.allclose(alone, outline, atol=0.01)
    assert np.array_equal(other, other.round())
assert all(0.89 < ious[1] < 0.9 for _, ious in results[:2])
assert results[2][1][1] == 0
assert np.abs(results[2][0] - results[1][0]).max() == 0
PY
venv/bin/python show.py
