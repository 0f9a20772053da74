#!/usr/bin/env bash
# deeptile 2.0.10 cuts an image into tiles and stitches what a function made of them. stitch_image by default blends the
# overlaps: it adds 0.0000001 to the sum of the weights and then cuts off the decimals. Tiles that were only cut and
# stitched, nothing done to them, are 1 lower in 98 of 100 pixels if they are integers, as microscopes' are, and a mask
# of 0 and 1 comes back without any 1. The weights fall off towards the sides of each tile, also where that is the side
# of the image, and the more so the wider the overlap: with tiles of 1024 and an overlap of a quarter the outermost row
# is at 97 % and the corners at 0 %, a pixel of 65,416 at 5; floats too. With blend=False all pixels come back. The
# documentation says nothing of it. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check deeptile==2.0.10 numpy==2.4.6
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from deeptile import load
from deeptile.extensions.stitch import stitch_image

warnings.simplefilter("error")
print(f"deeptile {version('deeptile')}")
SIDE = 1500


def stitched(image, tile, overlap, **options):
    """What comes back of an image that is only cut and stitched."""
    return np.asarray(stitch_image(load(image).get_tiles((tile, tile), (overlap, overlap)), **options))


def weights(length, overlap):
    """What is right at one side of a tile of float32 values of 1, by the sigmoid of the documentation's sigma of 10."""
    outermost = 1 / (1 + np.exp(((length - 1) / 2 - length * (1 - overlap) / 2) / 10))
    return outermost / (outermost + 1e-7), outermost**2 / (outermost**2 + 1e-7)


image = np.random.default_rng(0).integers(1, 65536, (SIDE, SIDE)).astype(np.uint16)
image[0, 0] = 65416
mask = np.ones((SIDE, SIDE), np.uint8)
found = {}
for tile, overlap in ((512, 0.1), (1024, 0.25)):
    assert (stitched(image, tile, overlap, blend=False) == image).all()
    back = stitched(image, tile, overlap)
    ones = stitched(np.ones((SIDE, SIDE), np.float32), tile, overlap)
    lower = image.astype(int) - back
    assert back.dtype == np.uint16 and back.shape == image.shape and (lower >= 0).all()
    found[tile] = [round(float((lower > 0).mean()), 3), int(np.median(lower)), int(lower[0, 0]),
                   round(float((stitched(mask, tile, overlap) == 0).mean()), 3)]
    side, corner = weights(tile, overlap)
    print(f"   tiles of {tile}, overlap {overlap}: of 16 bits {found[tile][0]:.1%} of the pixels are lower, most by "
          f"{found[tile][1]}, the first by {lower[0, 0]}; of a mask of ones {found[tile][3]:.0%} are 0; of floats, "
          f"the side has {ones[0, tile // 2]:.4f} and the corner {ones[0, 0]:.4f} of the value")
    assert np.isclose(ones[0, tile // 2], side, rtol=1e-3) and np.isclose(ones[0, 0], corner, rtol=0.02)
print(f"   {found}")
assert found[512][1:3] == [1, 2] and found[512][0] > 0.97 and found[512][3] == 1
assert found[1024][1:3] == [1, 65411] and found[1024][0] > 0.97 and found[1024][3] == 1
PY
OMP_NUM_THREADS=1 venv/bin/python show.py
