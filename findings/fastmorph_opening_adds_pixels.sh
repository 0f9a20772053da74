#!/usr/bin/env bash
# fastmorph 1.10.0 dilates by what is within a radius and erodes by what is nearer than it: spherical_erode with
# the default radius of 1 changes nothing. So its spherical_open, which should remove what is thinner than the ball
# and add nothing, is a dilation: specks of one pixel stay and become 5, in 3D 7, two cells joined by a bridge of
# one pixel stay joined, and a disc of radius 20 has 1373 pixels for 1257. spherical_close lets the disc grow by as
# many. Larger radii too add pixels to a disc. scikit-image's opening and closing with disk(1) leave it as it is,
# and fastmorph's own opening by a cube adds nothing. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 \
  fastmorph==1.10.0
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import fastmorph
import numpy as np
from scipy.ndimage import label
from skimage.morphology import ball, closing, disk, erosion, opening

warnings.simplefilter("error")
rows, columns = np.mgrid[:61, :61] - 30
disc = rows**2 + columns**2 <= 20**2
speck = np.zeros((9, 9), bool)
speck[4, 4] = True
speck_3d = np.zeros((9, 9, 9), bool)
speck_3d[4, 4, 4] = True
bridged = np.zeros((30, 60), bool)
bridged[5:25, 5:25] = bridged[5:25, 35:55] = True
bridged[15, 25:35] = True


def objects(mask):
    return label(mask)[1]


print("fastmorph", version("fastmorph"))
found = {}
masks = {"disc": disc, "speck": speck, "speck in 3D": speck_3d, "two cells and a bridge": bridged}
for name, mask in masks.items():
    opened, closed = fastmorph.spherical_open(mask), fastmorph.spherical_close(mask)
    sphere = (disk if mask.ndim == 2 else ball)(1)
    meant = opening(mask, sphere), closing(mask, sphere)
    found[name] = [int(m.sum()) for m in (mask, fastmorph.spherical_erode(mask), opened, closed)]
    print(f"   {name}: pixels, eroded, opened and closed by 1 {found[name]}, by scikit-image",
          [int(m.sum()) for m in (erosion(mask, sphere), *meant)],
          f"objects {objects(mask)}, opened {objects(opened)}, by scikit-image {objects(meant[0])}")
    assert not (meant[0] & ~mask).any() and not (mask & ~meant[1]).any()
    assert objects(opened) == 1
assert found["disc"] == [1257, 1257, 1373, 1373]
assert found["speck"] == [1, 1, 5, 5]
assert found["speck in 3D"] == [1, 1, 7, 7]
assert objects(opening(bridged, disk(1))) == 2 and not opening(speck, disk(1)).any()
assert not opening(speck_3d, ball(1)).any()
for operation in (opening, closing):
    assert (operation(disc, disk(1)) == disc).all()
added = []
for radius in (1, 2, 3, 5):
    opened = fastmorph.spherical_open(disc, radius=radius)
    added.append(int((opened & ~disc).sum()))
    assert not (opening(disc, disk(radius)) & ~disc).any()
print("   pixels that opening by 1, 2, 3 and 5 adds to the disc:", added)
assert added == [116, 64, 32, 72]
labels = disc.astype(np.uint16) * 7
assert [int((f(labels) == 7).sum()) for f in (fastmorph.spherical_open, fastmorph.spherical_close)] == [1373, 1373]
for mask in (disc, speck, bridged):
    assert (fastmorph.opening(mask) == opening(mask, np.ones((3, 3), bool))).all()
PY
venv/bin/python show.py
