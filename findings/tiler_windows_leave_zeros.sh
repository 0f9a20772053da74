#!/usr/bin/env bash
# tiler 0.6.0 cuts arrays into tiles and merges what a network made of them, weighted by a window. With the window
# "overlap-tile" and an axis along which tiles do not overlap, as the slices of a volume or the bands of a scanner, what
# it merges is 0 everywhere, with the padding that the documentation asks for: it takes half of the overlap from both
# sides, and from 0 pixels on, "[0:-0]", nothing is left. "hann", "bartlett", "bohman" and "barthann" weigh the first
# line of a tile with 0 and divide 0 by it: the first row and column of the image are 0 without padding, which is not
# asked for there, and along an axis without overlap one line at each seam, or two, also with it. merge silences NumPy's
# warnings of the division and puts 0 for what is not a number. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check tiler==0.6.0 numpy==2.4.6
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from tiler import Merger, Tiler

warnings.simplefilter("error")
print(f"tiler {version('tiler')}, numpy {version('numpy')}")


def merged(image, tile, overlap, window, pad):
    """What comes back of an array that is only cut and merged."""
    tiler = Tiler(data_shape=image.shape, tile_shape=tile, overlap=overlap)
    padded, options = image, {}
    if pad:  # as in the documentation
        shape, padding = tiler.calculate_padding()
        tiler.recalculate(data_shape=shape)
        padded, options = np.pad(image, padding, mode="reflect"), {"extra_padding": padding}
    merger = Merger(tiler, window=window)
    for number, piece in tiler(padded):
        merger.add(number, piece)
    back = merger.merge(**options)
    assert back.shape == image.shape
    return back


image = np.random.default_rng(0).integers(1, 256, (96, 128)).astype(np.float32)
volume = np.random.default_rng(0).integers(1, 256, (8, 64, 64)).astype(np.float32)
lost = {}
for name, data, tile, overlap, pad in [
    ("overlap 16", image, (32, 32), (16, 16), False),
    ("overlap 16, padding", image, (32, 32), (16, 16), True),
    ("overlap 16 along the rows, padding", image, (32, 32), (16, 0), True),
    ("overlap 0", image, (32, 32), (0, 0), False),
    ("volume, slices alone, overlap 16, padding", volume, (4, 32, 32), (0, 16, 16), True),
]:
    for window in ("boxcar", "triang", "parzen", "hann", "bartlett", "bohman", "barthann", "overlap-tile"):
        back = merged(data, tile, overlap, window, pad)
        zero = back == 0
        assert np.allclose(back[~zero], data[~zero], atol=1e-3)  # all the rest is right
        lost[name, window] = zero
    print(f"   {name}:", ", ".join(f"{w} {z.mean():.1%}" for (n, w), z in lost.items() if n == name), "are 0")
for (name, window), zero in lost.items():
    if window in ("boxcar", "triang", "parzen"):
        assert not zero.any()
    elif window == "overlap-tile" and name != "overlap 16":  # without its padding, the sides are 0 as documented
        assert zero.all() if name != "overlap 16, padding" else not zero.any()
for window in ("hann", "bartlett", "bohman", "barthann"):
    first = np.zeros(image.shape, bool)
    first[0], first[:, 0] = True, True
    alone = lost["overlap 16", window]
    assert (alone[:95, :127] == first[:95, :127]).all()
    assert not lost["overlap 16, padding", window].any()
    columns = lost["overlap 16 along the rows, padding", window].all(0)
    print(f"   {window}, overlap along the rows alone, padding: columns {np.flatnonzero(columns).tolist()} are 0")
    assert columns.sum() == 8 and lost["overlap 16 along the rows, padding", window].mean() == 8 / 128
    assert lost["overlap 0", window].mean() > 0.12
PY
OMP_NUM_THREADS=1 venv/bin/python show.py
