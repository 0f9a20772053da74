#!/usr/bin/env bash
# The instances that transformers makes of the outputs of Mask2Former include one mask several times, once
# for each class that scores above the threshold. In the segmentation map, the last one covers the others,
# so that segments_info lists segments without a pixel; where two objects overlap, it is also the last one,
# not the better one, that gets the pixels. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 transformers==5.24.0 pillow==13.0.0
cat > show.py <<'PY'
import sys
import warnings

import torch
import transformers

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
from transformers import Mask2FormerImageProcessor  # noqa: E402
from transformers.models.mask2former import modeling_mask2former  # noqa: E402

classes = torch.full((1, 3, 5), -8.0)  # three queries, four classes and "nothing"
classes[0, 0, :2] = 4  # this one is either of two classes
classes[0, 1, 2], classes[0, 2, 4] = 6, 8
masks = torch.full((1, 3, 24, 32), -8.0)
masks[0, 0, 2:10, 2:12] = masks[0, 1, 6:20, 8:28] = 8
outputs = modeling_mask2former.Mask2FormerForUniversalSegmentationOutput(
    class_queries_logits=classes, masks_queries_logits=masks
)
made = Mask2FormerImageProcessor().post_process_instance_segmentation
found = made(outputs, threshold=0.3, target_sizes=[(24, 32)])[0]
pixels = [int((found["segmentation"] == s["id"]).sum()) for s in found["segments_info"]]
for segment, count in zip(found["segments_info"], pixels, strict=True):
    print(f"segment {segment['id']}: class {segment['label_id']}, score {segment['score']}, {count} pixels")
apart = made(outputs, threshold=0.3, target_sizes=[(24, 32)], return_binary_maps=True)[0]
areas = [int(one.sum()) for one in apart["segmentation"]]
print(f"pixels of their masks: {areas}; transformers {transformers.__version__}")
twice = [s["label_id"] for s in found["segments_info"]] == [1, 2, 0]
sys.exit(not (twice and pixels == [0, 264, 79] and areas == [79, 279, 79]))
PY
venv/bin/python show.py
