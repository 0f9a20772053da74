#!/usr/bin/env bash
# kornia's AugmentationSequential reads corners under the key bbox_xyxy as including the last pixel, as its
# documentation has it, unlike COCO's, torchvision's and those of its own Boxes of mode "xyxy". A box that is
# exact by those is, flipped, one pixel left of or above its object; flipped once more it is back. Resized to
# twice the size it is 0.1 to 0.3 pixels off. Image and mask are right. Nothing is said. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 kornia==0.9.0
cat > show.py <<'PY'
import sys

import kornia
import kornia.augmentation as augment
import torch

BOX = [10, 20, 25, 30]  # left, top, right, bottom: 15×10 pixels
mask = torch.zeros(1, 1, 100, 100)
mask[..., 20:30, 10:25] = 1


def around(mask):
    """The box of a mask: the corners of its outermost pixels."""
    rows, columns = mask[0, 0].nonzero(as_tuple=True)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


assert around(mask) == BOX
flip = augment.RandomHorizontalFlip(p=1.0)
found = {}
for name, steps in {
    "flipped sideways": [flip],
    "flipped upside down": [augment.RandomVerticalFlip(p=1.0)],
    "flipped sideways twice": [flip, augment.RandomHorizontalFlip(p=1.0)],
    "resized to 200×200": [augment.Resize((200, 200))],
}.items():
    apply = augment.AugmentationSequential(*steps, data_keys=["input", "mask", "bbox_xyxy"])
    image, moved, boxes = apply(mask, mask, torch.tensor([[BOX]], dtype=torch.float32))
    assert around(image > 0.5) == around(moved)
    box = [round(v, 1) for v in boxes.flatten().tolist()]
    found[name] = [round(b - m, 1) for b, m in zip(box, around(moved))]
    print(f"kornia {kornia.__version__}, {name}: mask {around(moved)}, box {box}, off by {found[name]}")
sys.exit(found != {
    "flipped sideways": [-1, 0, -1, 0],
    "flipped upside down": [0, -1, 0, -1],
    "flipped sideways twice": [0, 0, 0, 0],
    "resized to 200×200": [0.1, 0.2, 0.3, 0.3],
})
PY
venv/bin/python show.py
