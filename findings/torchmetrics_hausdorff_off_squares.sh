#!/usr/bin/env bash
# torchmetrics 1.9.0 has a Hausdorff distance of masks, how far the border of the one is from that of the other at most.
# It is right for square images alone. Of others the distances are written to the wrong pixels, at row × height + column
# where row × width + column is meant. In wide images the result is wrong: of two discs whose distance is 7 it is 27.2
# in an image of 40×50, 22.4 if both lie 5 pixels further right, and 20.6 for a disc and itself, where 0 is right. Images
# that are higher than wide raise an IndexError. With the same masks padded to a square, all is right, as is its own
# distance_transform with engine="scipy". The documentation's examples are square; nothing is said. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6 scipy==1.17.1
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
import torch
from scipy import ndimage
from torchmetrics.functional.segmentation.utils import distance_transform
from torchmetrics.segmentation import HausdorffDistance

warnings.simplefilter("error")
print(f"torchmetrics {version('torchmetrics')}, torch {version('torch')}, scipy {version('scipy')}")


def disc(height, width, row, column, radius=8):
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - row, columns - column) <= radius


def right(first, second):
    """The distance between the borders, by each pixel of the one and each of the other."""
    borders = [np.argwhere(m & ~ndimage.binary_erosion(m)) for m in (first, second)]
    between = np.linalg.norm(borders[0][:, None] - borders[1][None], axis=-1)
    return max(between.min(0).max(), between.min(1).max())


def measured(first, second):
    metric = HausdorffDistance(num_classes=1, include_background=True)
    metric.update(*(torch.tensor(m, dtype=torch.int32)[None, None] for m in (first, second)))
    return metric.compute().item()


found = {}
for name, size, first, second in [
    ("40×40", (40, 40), (20, 15), (20, 22)),
    ("40×50", (40, 50), (20, 15), (20, 22)),
    ("40×50, 5 further right", (40, 50), (20, 20), (20, 27)),
    ("40×50, a disc and itself", (40, 50), (20, 15), (20, 15)),
    ("40×41", (40, 41), (20, 15), (20, 22)),
    ("40×36", (40, 36), (12, 15), (12, 22)),
    ("60×40", (60, 40), (50, 15), (50, 22)),
]:
    masks = disc(*size, *first), disc(*size, *second)
    try:
        value = round(measured(*masks), 1)
    except IndexError as error:
        value = type(error).__name__
    found[name] = [value, float(right(*masks))]
    print(f"   discs in an image of {name}: {value}, right {found[name][1]:g}")
    side = max(size)
    square = [np.pad(m, [(0, side - s) for s in size]) for m in masks]
    assert np.isclose(measured(*square), right(*masks))
assert found == {
    "40×40": [7.0, 7.0], "40×50": [27.2, 7.0], "40×50, 5 further right": [22.4, 7.0],
    "40×50, a disc and itself": [20.6, 0.0], "40×41": [17.5, 7.0], "40×36": ["IndexError", 7.0],
    "60×40": ["IndexError", 7.0],
}
mask = torch.from_numpy(disc(40, 50, 20, 15))
want = ndimage.distance_transform_edt(mask.numpy())
same = {e: bool(np.allclose(distance_transform(mask, engine=e), want, atol=1e-4)) for e in ("scipy", "pytorch")}
print(f"   distance_transform of 40×50 as SciPy has it: {same}")
assert same == {"scipy": True, "pytorch": False}
PY
OMP_NUM_THREADS=1 venv/bin/python show.py
