#!/usr/bin/env bash
# ngff-zarr 0.50.0 makes the smaller levels of an OME-Zarr by several methods and gives each level the translation
# of a pixel that stands for a block. DASK_IMAGE_NEAREST, for labels, and DASK_IMAGE_GAUSSIAN take the corner of
# each block instead: where its own metadata say, a cell is 0.5 pixels of the full image off at 1/2, 1.5 at 1/4 and
# 3.5 at 1/8, along both axes, close to half a pixel of that level. So labels and image, or two images, of
# different methods do not lie on each other. DASK_IMAGE_MODE, for labels, and DASK_BIN_SHRINK are right. Nothing
# is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 ngff-zarr==0.50.0 dask-image==2026.5.0
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np  # noqa: E402
from ngff_zarr import Methods, to_multiscales, to_ngff_image  # noqa: E402

FACTORS = [2, 4, 8]
SIDE = 17
labels = np.zeros((256, 256), np.uint16)
for n in range(64):
    y, x = 31 * (n // 8) + 5, 31 * (n % 8) + 6  # at each place in the blocks of 8×8 once
    labels[y : y + SIDE, x : x + SIDE] = n + 1
rows, columns = np.mgrid[:256, :256]
image = np.exp(-((rows - 120.3) ** 2 + (columns - 131.9) ** 2) / 200).astype(np.float32)


def middle(weights, scale=(1, 1), translation=(0, 0)):
    """Its middle in the coordinates of the full image."""
    return [(weights.sum(1 - axis) * np.arange(weights.shape[axis])).sum() / weights.sum() * scale[axis]
            + translation[axis] for axis in (0, 1)]


def off(full, method):
    """How far the objects are from where they are in the full image, for each level, in its pixels."""
    whole = to_ngff_image(full, dims=("y", "x"), scale={"y": 1.0, "x": 1.0}, translation={"y": 0.0, "x": 0.0})
    parts = [lambda a, n=n: (a == n).astype(float) for n in range(1, 65)] if full is labels else [np.float64]
    found = []
    for level, factor in zip(to_multiscales(whole, FACTORS, method=method).images[1:], FACTORS, strict=True):
        data = np.asarray(level.data)
        scale, translation = ([placed[axis] for axis in "yx"] for placed in (level.scale, level.translation))
        assert data.shape == (256 // factor, 256 // factor) and scale == [factor] * 2
        assert translation == [(factor - 1) / 2] * 2
        moved = [np.subtract(middle(part(data), scale, translation), middle(part(full))) for part in parts]
        found.append(np.mean(moved, axis=0).round(1))
    return found


right, wrong = np.zeros((3, 2)), np.array([[0.5] * 2, [1.5] * 2, [3.5] * 2])
print(f"ngff-zarr {version('ngff-zarr')}, dask-image {version('dask-image')}; off at 1/2, 1/4 and 1/8:")
for name, full, expected in [
    ("DASK_IMAGE_MODE", labels, right),
    ("DASK_IMAGE_NEAREST", labels, wrong),
    ("DASK_BIN_SHRINK", image, right),
    ("DASK_IMAGE_GAUSSIAN", image, wrong),
]:
    found = off(full, Methods[name])
    print(f"   {'64 labels' if full is labels else 'a spot'} by {name}:", *(f"{y:g},{x:g}" for y, x in np.abs(found)))
    assert np.allclose(found, expected, atol=0.11), found
PY
nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
