#!/usr/bin/env bash
# MONAI 1.6.1's RemoveSmallObjects, which drops objects below a number of pixels, treats a stack of masks as
# one volume, also with independent_channels=True: a speck of 4 pixels stays where the mask of the channel
# before or after covers it, as with instances that overlap or with a tumour and its core. In a map of classes
# it adds up all pixels of a class: the speck of one goes if the image has no other class and stays if it has.
# Channel by channel all specks go. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 numpy==2.4.6 monai==1.6.1 scikit-image==0.26.0 scipy==1.17.1
cat > show.py <<'PY'
import sys
import warnings

import numpy as np
import scipy.ndimage
import torch

warnings.simplefilter("ignore")
import monai  # noqa: E402
from monai.transforms import RemoveSmallObjects  # noqa: E402

LEAST = 20


def without_small(mask):
    """One mask without the connected pieces of fewer than LEAST pixels."""
    pieces, _ = scipy.ndimage.label(mask)
    return mask & (np.bincount(pieces.ravel())[pieces] >= LEAST)


def counted(masks):
    return [int(mask.sum()) for mask in masks]


def speck(mask, row, column):
    mask[row : row + 2, column : column + 2] = 1


# two instances that overlap: the second with one speck inside the first and one outside
over = torch.zeros(2, 64, 64)
over[0, 10:50, 10:50] = 1
over[1, 30:60, 45:60] = 1
speck(over[1], 12, 12)
apart = over.clone()
speck(apart[1], 2, 2)
# a map of one class, and the same with an object of a second class elsewhere
one = torch.zeros(1, 64, 64)
one[0, 10:30, 10:30] = 1
speck(one[0], 50, 50)
two = one.clone()
two[0, 40:60, 5:25] = 2

remove = RemoveSmallObjects(min_size=LEAST, independent_channels=True)
found = {}
for name, image, classes in [
    ("two masks, a speck inside the other mask", over, None),
    ("the same and a speck outside", apart, None),
    ("a map of one class with a speck", one, (1,)),
    ("the same and an object of a second class", two, (1, 2)),
]:
    before = image.clone()
    out = remove(image)
    assert torch.equal(image, before)
    masks, cleaned = (
        [np.asarray(part) > 0 for part in stack] if classes is None else [np.asarray(stack[0]) == c for c in classes]
        for stack in (image, out)
    )
    meant = counted(without_small(mask) for mask in masks)
    single = counted(np.asarray(remove(torch.from_numpy(mask[None].astype(np.float32)))) > 0 for mask in masks)
    assert single == meant  # one by one it does as it says
    found[name] = counted(masks), counted(cleaned), meant
    print(f"{name}: {found[name][0]} pixels, cleaned {found[name][1]}, should be {found[name][2]}")
print("MONAI", monai.__version__)
sys.exit(
    list(found.values())
    != [
        ([1600, 454], [1600, 454], [1600, 450]),
        ([1600, 458], [1600, 454], [1600, 450]),
        ([404], [400], [400]),
        ([404, 400], [404, 400], [400, 400]),
    ]
)
PY
venv/bin/python show.py
