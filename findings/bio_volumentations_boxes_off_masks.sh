#!/usr/bin/env bash
# bio-volumentations 1.4.0 augments stacks of microscopy together with masks and boxes. Its Flip and crops take a
# box's corners for its first and last voxel, its Resize takes them for edges, and so no box stays with its mask. Of
# a cell one plane thick, as in stacks of few planes, with edges for corners (COCO's, YOLO's) the flipped box lies
# in the next plane, with an IoU of 0 with the mask's, and one that reaches the end of the image loses its last plane
# in a crop that changes nothing. With its voxels for corners, CenterCrop drops the box, whose volume is 0 to it,
# while the mask stays, and in a stack made twice as high the box is one plane short. "voc", the default, is said to
# be "absolute coordinates of the minimal and maximal points". Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 simpleitk==2.5.7 \
  bio-volumentations==1.4.0
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import bio_volumentations
import numpy as np

warnings.simplefilter("error")
SHAPE = (10, 40, 40)  # planes, rows, columns


def stack(planes):
    mask = np.zeros(SHAPE, np.uint8)
    mask[planes, 10:20, 15:30] = 1
    return mask


def corners(mask, convention):
    """The box of a mask: its first voxel, and its last one ("voxels") or the one beyond ("edges")."""
    places = np.argwhere(mask)
    return places.min(0), places.max(0) + (convention == "edges")


def moved(transform, mask, convention):
    """The box of the mask, before and after, and the mask's own box after."""
    low, high = (tuple(int(v) for v in corner) for corner in corners(mask, convention))
    compose = bio_volumentations.Compose([transform], bbox_format="voc")
    after = compose(image=mask[None].astype(np.float32), mask=mask, bboxes=[(low, high, 0)])
    boxes = [(np.round(box[0], 6).tolist(), np.round(box[1], 6).tolist()) for box in after["bboxes"]]
    right = tuple(corner.tolist() for corner in corners(after["mask"], convention))
    return boxes, right


def planes(boxes):
    return [(box[0][0], box[1][0]) for box in boxes]


print("bio-volumentations", version("bio-volumentations"))
transforms = {
    "Flip": (bio_volumentations.Flip(axes=[1], always_apply=True), slice(3, 4)),
    "CenterCrop": (bio_volumentations.CenterCrop(shape=SHAPE, always_apply=True), slice(3, 4)),
    "CenterCrop at the end": (bio_volumentations.CenterCrop(shape=SHAPE, always_apply=True), slice(8, 10)),
    "Resize": (bio_volumentations.Resize(shape=(20, 40, 40), always_apply=True), slice(3, 4)),
}
found = {}
for name, (transform, where) in transforms.items():
    for convention in ("edges", "voxels"):
        boxes, right = moved(transform, stack(where), convention)
        found[name, convention] = planes(boxes), planes([right])
        print(f"   {name}, corners as {convention}: planes {found[name, convention][0]}, by the mask "
              f"{found[name, convention][1]}")
assert found == {
    ("Flip", "edges"): ([(5, 6)], [(6, 7)]),
    ("Flip", "voxels"): ([(6, 6)], [(6, 6)]),
    ("CenterCrop", "edges"): ([(3, 4)], [(3, 4)]),
    ("CenterCrop", "voxels"): ([], [(3, 3)]),
    ("CenterCrop at the end", "edges"): ([(8, 9)], [(8, 10)]),
    ("CenterCrop at the end", "voxels"): ([(8, 9)], [(8, 9)]),
    ("Resize", "edges"): ([(6, 8)], [(6, 8)]),
    ("Resize", "voxels"): ([(6, 6)], [(6, 7)]),
}
PY
venv/bin/python show.py
