#!/usr/bin/env bash
# torchvision's batched_nms adds an offset to the boxes of each class, its number × the largest coordinate,
# in the precision of the boxes. Under autocast, detectors pass bfloat16: of 450 boxes that are 150 objects,
# three times each, it keeps 450 if they are of class 79, as without suppression. In float32 class numbers
# from 100,000 on, such as those of species, do the same. With more than 1000 boxes on a CPU it takes class
# by class, and is right. Nothing is said. Exits 1 if that changes.
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
import torchvision
from torchvision.models.detection import rpn
from torchvision.ops import batched_nms, nms

warnings.simplefilter("ignore")
generator = torch.Generator().manual_seed(0)
corners = torch.rand(150, 2, generator=generator) * torch.tensor([1300.0, 780.0])
sides = 8 + 24 * torch.rand(150, 2, generator=generator)
once = torch.cat([corners, corners + sides], 1)
boxes = torch.cat([once, once + torch.rand(150, 4, generator=generator), once + 0.5])
scores = torch.rand(len(boxes), generator=generator)


def kept(boxes, number):
    scores_ = scores.repeat(len(boxes) // len(scores))
    return len(batched_nms(boxes, scores_, torch.full((len(boxes),), number), 0.5))


found = {number: kept(boxes, number) for number in (1, 90, 10_000, 100_000, 2_480_528)}
print(f"float32: {len(nms(boxes, scores, 0.5))} boxes by nms; by batched_nms and class number {found}")
more = kept(boxes.repeat(3, 1), 2_480_528)
print("the same boxes three times, class 2,480,528:", more)

with torch.autocast("cpu", dtype=torch.bfloat16):
    rounded = boxes.bfloat16()
    alone = len(nms(rounded, scores, 0.5))
    by_class = {number: kept(rounded, number) for number in (0, 1, 4, 40, 79)}
print(f"bfloat16 under autocast: {alone} by nms; by batched_nms and class number {by_class}")

passed = []
rpn.box_ops.batched_nms = lambda boxes, *others: passed.append(boxes.dtype) or batched_nms(boxes, *others)
torch.manual_seed(0)
model = torchvision.models.detection.maskrcnn_resnet50_fpn(
    weights=None, weights_backbone=None, min_size=160
).eval()
with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
    model([torch.rand(3, 160, 240)])
print("what Mask R-CNN passes under autocast:", passed)

expected = {1: 150, 90: 150, 10_000: 150, 100_000: 168, 2_480_528: 450}
expected_by_class = {0: 155, 1: 189, 4: 333, 40: 448, 79: 450}
same = (found, more, alone, by_class) == (expected, 150, 155, expected_by_class)
sys.exit(not (same and passed == [torch.bfloat16, torch.bfloat16]))
PY
venv/bin/python show.py 2>/dev/null
