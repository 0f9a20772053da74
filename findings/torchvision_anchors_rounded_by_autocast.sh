#!/usr/bin/env bash
# torchvision's AnchorGenerator makes anchors in the precision of the features. Under autocast these are
# bfloat16, and so the anchors of a large image are rounded to multiples of up to 8 pixels: of the 53,760
# anchors of 12×22 pixels at stride 4 of a 1280×672 image, 48,552 remain, 8 to 16 pixels wide, off by up
# to 6 pixels. A model that is trained so is run in float32 with other anchors. Nothing is said.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > show.py <<'PY'
import sys
import warnings

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

warnings.simplefilter("ignore")
height, width, stride = 672, 1280, 4
images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
convolution = torch.nn.Conv2d(3, 4, 3, stride=stride, padding=1)

with torch.autocast("cpu", dtype=torch.bfloat16):
    features = convolution(images.tensors)
    (rounded,) = AnchorGenerator(((16,),), ((2.0,),))(images, [features])
(exact,) = AnchorGenerator(((16,),), ((2.0,),))(images, [features.float()])


def facts(anchors):
    sides = (anchors[:, 2] - anchors[:, 0]).float()
    return str(anchors.dtype), len(anchors), len(anchors.unique(dim=0)), *sides.aminmax()


for anchors in (exact, rounded):
    print(*facts(anchors))
off = (exact - rounded.float()).abs().max().item()
print("off by up to", off, "pixels")

dtype, count, distinct, low, high = facts(exact)
exactly = (dtype, count, distinct, low, high) == ("torch.float32", 53760, 53760, 12, 12)
dtype, count, distinct, low, high = facts(rounded)
loosely = dtype == "torch.bfloat16" and count == 53760 and (distinct, low, high) == (48552, 8, 16)
sys.exit(not (exactly and loosely and off == 6))
PY
venv/bin/python show.py 2>/dev/null
