#!/usr/bin/env bash
# scikit-image's isotropic_opening, the fast one for large radii, should remove what is thinner than its disc. Of a
# mask of which nothing is left, as one of specks alone, it returns a new object in the first corner of the image,
# a quarter of a disc: 20 pixels for a radius of 5, 314 for 20. isotropic_dilation makes the same of an empty mask,
# and isotropic_erosion takes it from a full one. opening with disk(radius) has none. The cause is SciPy's distance
# transform: without any background it measures from a place outside the image, above its corner (scipy #15585).
# Neither documentation says so, and nothing is said. scikit-image 0.26.0, SciPy 1.17.1. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from skimage.measure import label
from skimage.morphology import disk, isotropic_dilation, isotropic_erosion, isotropic_opening, opening

warnings.simplefilter("error")
specks = np.zeros((60, 80), bool)
specks[30, 40] = specks[50, 20:22] = True
cell = specks.copy()
cell[5:55, 25:75] = True  # with a cell, of which something is left
empty, full = np.zeros_like(specks), np.ones_like(specks)

print(f"scikit-image {version('scikit-image')}, SciPy {version('scipy')}")
found = {}
for radius in (1, 2, 5, 20):
    opened = isotropic_opening(specks, radius)
    rows, columns = np.nonzero(opened)
    found[radius] = [int(opened.sum()), int(rows.max()) + 1, int(columns.max()) + 1]
    print(f"   two specks opened by {radius}: {found[radius][0]} pixels in {label(opened).max()} object, in the first "
          f"{found[radius][1]}x{found[radius][2]}; by opening with disk({radius})", opening(specks, disk(radius)).sum())
    assert not (opened & specks).any() and label(opened).max() == 1
    assert not opening(specks, disk(radius)).any()
    assert (isotropic_dilation(empty, radius) == opened).all()
    assert (~isotropic_erosion(full, radius) == opened).all()
    if radius < 20:
        assert (isotropic_opening(cell, radius) == opening(cell, disk(radius))).all()
print("   isotropic_dilation of an empty mask is the same, isotropic_erosion of a full one its complement")
assert found == {1: [1, 1, 1], 2: [3, 2, 2], 5: [20, 5, 5], 20: [314, 20, 20]}
PY
venv/bin/python show.py
