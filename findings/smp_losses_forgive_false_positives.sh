#!/usr/bin/env bash
# The Dice, Jaccard and Tversky losses of segmentation_models_pytorch are 0, and so is their gradient, for
# images without any object, also if everything was predicted as one. Trained with one of them alone, a
# network is never told of false positives in empty images or crops. LovaszLoss does tell. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 numpy==2.4.6 segmentation-models-pytorch==0.6.0
cat > show.py <<'PY'
import sys
import warnings
from importlib.metadata import version

import torch

warnings.simplefilter("ignore")
import segmentation_models_pytorch as smp  # noqa: E402

nothing = torch.zeros(2, 1, 16, 16)
found = {}
for name in ("DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss"):
    logits = torch.full((2, 1, 16, 16), 10.0, requires_grad=True)  # all of it an object
    loss = getattr(smp.losses, name)("binary")(logits, nothing)
    loss.backward()
    found[name] = loss.item(), logits.grad.abs().sum().item()
    print(f"{name}: {found[name][0]:.2f}, sum of its gradient {found[name][1]:.2f}")
print("segmentation_models_pytorch", version("segmentation-models-pytorch"))
silent = all(found[name] == (0, 0) for name in ("DiceLoss", "JaccardLoss", "TverskyLoss"))
sys.exit(not (silent and min(found["LovaszLoss"]) > 0))
PY
venv/bin/python show.py
