#!/usr/bin/env bash
# Training in float16, PyTorch's GradScaler starts with a scale of 65,536, so that infinite gradients are usual
# in the first steps: it skips these and halves the scale. Lightning Fabric's clip_gradients, called as its
# documentation shows between backward and step, raises RuntimeError on them by default
# (error_if_nonfinite=True), so that the training stops at its first step. With error_if_nonfinite=False the
# step is skipped as intended. PyTorch's own clip_grad_norm_ has False as default. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 numpy==2.4.6 lightning==2.6.6
cat > show.py <<'PY'
import inspect
import sys
import warnings

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision

warnings.simplefilter("ignore")


def train(**options):
    """One step whose scaled gradients are infinite; the weight after it, and the scale."""
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)
    model = torch.nn.Linear(1, 1, bias=False)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = model.weight.item()
    loss = model(torch.full((1, 1), 6e4)).float().sum()  # 6e4 times 65,536 is beyond float16
    fabric.backward(loss)
    model.weight.grad.fill_(torch.inf)  # as float16 kernels of a GPU leave it
    fabric.clip_gradients(model, optimizer, max_norm=1.0, **options)
    optimizer.step()
    return model.weight.item() == before, scaler.get_scale()


try:
    train()
    stopped = "no"
except RuntimeError as error:
    stopped = str(error)
print("by default:", stopped.splitlines()[0])
skipped, scale = train(error_if_nonfinite=False)
print("error_if_nonfinite=False: step skipped", skipped, "scale", scale)
own = inspect.signature(torch.nn.utils.clip_grad_norm_).parameters["error_if_nonfinite"].default
print("clip_grad_norm_ has the default", own)
sys.exit(not ("non-finite" in stopped and skipped and scale == 32768 and own is False))
PY
venv/bin/python show.py 2>/dev/null
