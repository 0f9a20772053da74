#!/usr/bin/env bash
# Lightning Fabric's mixed precision converts every floating-point tensor that a model is called with,
# also the boxes in detection targets: with bf16-mixed, a box from 1201 to 1333 pixels is trained as one
# from 1200 to 1336. PyTorch's autocast alone leaves it as it is. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 lightning==2.6.6
cat > show.py <<'PY'
import sys
import warnings

import torch
from lightning.fabric import Fabric

warnings.simplefilter("ignore")


class Detector(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images, targets):
        self.seen = targets[0]["boxes"]
        return {"loss": self.scale * images[0].float().mean()}


boxes = torch.tensor([[1201.0, 7.3, 1333.0, 530.7]])
targets = [{"boxes": boxes, "labels": torch.tensor([1])}]
images = [torch.zeros(3, 8, 8, dtype=torch.uint8)]

found = {}
for precision in ("32-true", "bf16-mixed"):
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    model = fabric.setup(Detector())
    model(images, targets)
    seen = model.module.seen
    found[precision] = (str(seen.dtype), seen.float().tolist()[0])
    print(precision, *found[precision])

detector = Detector()
with torch.autocast("cpu", dtype=torch.bfloat16):
    detector(images, targets)
found["autocast"] = (str(detector.seen.dtype), detector.seen.tolist()[0])
print("autocast", *found["autocast"])

exact = ("torch.float32", boxes.tolist()[0])
expected = {
    "32-true": exact,
    "bf16-mixed": ("torch.bfloat16", [1200.0, 7.3125, 1336.0, 532.0]),
    "autocast": exact,
}
sys.exit(found != expected)
PY
venv/bin/python show.py 2>/dev/null
