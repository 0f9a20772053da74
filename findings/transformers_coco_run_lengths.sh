#!/usr/bin/env bash
# With return_coco_annotation=True, transformers' post-processing of instance masks (Mask2Former's here)
# returns what its documentation calls COCO's run lengths. They are not: COCO's are lengths of alternate
# runs, column by column; these are pairs of a start, counted from 1, and a length, row by row. And the
# background is listed as a first object, so that two objects have three masks beside two labels and
# scores. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 pillow==13.0.0 transformers==5.24.0
cat > show.py <<'PY'
import sys
import warnings
from types import SimpleNamespace

import torch
import transformers
from transformers import Mask2FormerImageProcessor

warnings.simplefilter("ignore")
HEIGHT = WIDTH = 384
truth = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
truth[0, 10:30, 20:50] = truth[1, 200:240, 70:100] = True  # 600 and 1200 pixels
# What a perfect model returns: two sure queries of classes 3 and 5, and one of nothing.
classes = torch.full((1, 3, 8), -10.0)
classes[0, [0, 1, 2], [3, 5, 7]] = 10.0
masks = torch.cat([truth, torch.zeros_like(truth[:1])])[None] * 20.0 - 10.0
outputs = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
(result,) = Mask2FormerImageProcessor().post_process_instance_segmentation(
    outputs, target_sizes=[(HEIGHT, WIDTH)], return_coco_annotation=True
)
lists, labels = result["segmentation"], [s["label_id"] for s in result["segments_info"]]
print(f"transformers {transformers.__version__}: {len(lists)} masks, labels {labels}")


def coco_counts(mask):
    """Run lengths as COCO defines them."""
    pixels = mask.T.flatten()
    ends = (pixels[1:] != pixels[:-1]).nonzero()[:, 0] + 1
    counts = torch.diff(ends, prepend=torch.tensor([0]), append=torch.tensor([pixels.numel()]))
    return ([0] if pixels[0] else []) + counts.tolist()


def by_rows(pairs):
    """The mask of pairs of a start and a length."""
    pixels = torch.zeros(HEIGHT * WIDTH, dtype=torch.bool)
    for start, length in zip(pairs[::2], pairs[1::2]):
        pixels[start - 1 : start - 1 + length] = True
    return pixels.reshape(HEIGHT, WIDTH)


for name, numbers in zip(("first", "second", "third"), lists):
    print(f"{name}: {numbers[:6]} …, sum {sum(numbers)}, of an image of {HEIGHT * WIDTH} pixels")
for mask in truth:
    print("COCO's own:", coco_counts(mask)[:6], "…, sum", sum(coco_counts(mask)))
objects = [truth[[3, 5].index(label)] for label in labels]
background = ~truth.any(0)
same = all(torch.equal(by_rows(a), b) for a, b in zip(lists, (background, *objects)))
not_coco = all(a != coco_counts(b) and sum(a) != HEIGHT * WIDTH for a, b in zip(lists[1:], objects))
print("pairs by rows give background and objects:", same)
sys.exit(not (len(lists) == 3 and sorted(labels) == [3, 5] and same and not_coco))
PY
venv/bin/python show.py 2>/dev/null
