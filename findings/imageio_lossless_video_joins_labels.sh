#!/usr/bin/env bash
# imageio writes a video of grey frames, as of label maps, by its PyAV plugin and with the lossless codec FFV1
# and in_pixel_format="gray". It stores it as YUV of 16 to 235, the codec's default, and so 256 numbers become
# 220: 36 objects have the number of their neighbour, as if one, and colour frames, as it reads them by
# default, have 126 numbers off by one. With out_pixel_format="gray" too, all are kept. imageio 2.38.1, PyAV
# 18.1.0. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check imageio==2.38.1 av==18.1.0 numpy==2.4.6
cat > show.py <<'PY'
import sys
from importlib.metadata import version

import imageio.v3 as imageio
import numpy as np

labels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(8, 0).repeat(8, 1)  # squares of 8×8
frames = np.stack([labels, labels.T, labels])


def changed(**formats):
    """By how a video is read: of 256 numbers how many are left, and how many have become another."""
    imageio.imwrite("labels.mkv", frames, plugin="pyav", codec="ffv1", **formats)
    counts = {}
    for name, options in {"read as grey": {"format": "gray"}, "read by default": {}}.items():
        read = imageio.imread("labels.mkv", plugin="pyav", **options)
        read = read[..., 0] if read.ndim == 4 else read  # colours are alike
        assert read.shape == frames.shape
        became = {n: set(read[frames == n].tolist()) for n in range(256)}
        assert all(len(numbers) == 1 for numbers in became.values())
        became = {n: numbers.pop() for n, numbers in became.items()}
        assert all(abs(number - n) <= 1 for n, number in became.items())
        counts[name] = len(set(became.values())), sum(number != n for n, number in became.items())
    return counts, imageio.immeta("labels.mkv", plugin="pyav")["video_format"]


found = {}
for name, formats in {
    'in_pixel_format="gray"': {"in_pixel_format": "gray"},
    "and out_pixel_format": {"in_pixel_format": "gray", "out_pixel_format": "gray"},
}.items():
    found[name], stored = changed(**formats)
    for way, (left, other) in found[name].items():
        print(f"{name}, stored as {stored}, {way}: {left} of 256 numbers are left, {other} have become another")
print("imageio", version("imageio"), "PyAV", version("av"))
kept = {"read as grey": (256, 0), "read by default": (256, 0)}
sys.exit(list(found.values()) != [{"read as grey": (220, 36), "read by default": (220, 126)}, kept])
PY
venv/bin/python show.py
