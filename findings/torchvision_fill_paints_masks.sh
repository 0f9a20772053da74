#!/usr/bin/env bash
# torchvision's transforms v2 with a number as fill, such as YOLO's grey 114, fill instance masks with it
# too: after RandomZoomOut(fill=114), masks of 9 and 25 pixels have 1209 and 1225, all of the new border,
# as integers and as booleans; the boxes beside them are right. Zero, the default, and a dictionary of
# fills by type are right. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > show.py <<'PY'
import sys

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

image = tv_tensors.Image(torch.full((3, 20, 20), 50, dtype=torch.uint8))
corners = [[5, 5, 8, 8], [10, 10, 15, 15]]
masks = torch.zeros(2, 20, 20, dtype=torch.uint8)
for mask, (x1, y1, x2, y2) in zip(masks, corners):
    mask[y1:y2, x1:x2] = 1


def transformed(transform, dtype):
    torch.manual_seed(0)
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(20, 20))
    _, target = transform(image, {"boxes": boxes, "masks": tv_tensors.Mask(masks.to(dtype))})
    sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
    return (target["masks"] > 0).sum((1, 2)).tolist(), sides.prod(1).tolist()


by_type = {tv_tensors.Mask: 0, "others": 114}
TRANSFORMS = {
    "RandomZoomOut": lambda fill: v2.RandomZoomOut(fill, side_range=(2.0, 2.0), p=1.0),
    "Pad": lambda fill: v2.Pad(4, fill=fill),
    "RandomCrop": lambda fill: v2.RandomCrop(30, pad_if_needed=True, fill=fill),
    "RandomRotation": lambda fill: v2.RandomRotation((45, 45), fill=fill),
}
found = {}
for name, transform in TRANSFORMS.items():
    for fill in (0, by_type, 114):
        found[name, str(fill)[:3]] = pair = [
            transformed(transform(fill), dtype)[0] for dtype in (torch.uint8, torch.bool)
        ]
        print(f"{name}, fill {'by type' if fill is by_type else fill}: pixels of the masks {pair}")
print("areas of the boxes after RandomZoomOut:", transformed(TRANSFORMS["RandomZoomOut"](114), torch.bool)[1])
exact = [[9, 25]] * 2
assert all(v == exact for (name, fill), v in found.items() if fill != "114" and name != "RandomRotation")
assert found["RandomZoomOut", "114"] == [[1209, 1225]] * 2
assert found["Pad", "114"] == [[393, 409]] * 2
assert found["RandomCrop", "114"] == [[509, 525]] * 2
assert found["RandomRotation", "0"] == found["RandomRotation", "{<c"] == [[12, 32]] * 2
assert found["RandomRotation", "114"] == [[72, 92]] * 2
assert transformed(TRANSFORMS["RandomZoomOut"](114), torch.bool)[1] == [9, 25]
PY
venv/bin/python show.py
