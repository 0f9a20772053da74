#!/usr/bin/env bash
# CCMetrics 0.0.3 computes MONAI's metrics for each object of a mask apart. Its import switches gradients off, by a line
# that is meant "for this entire module" and holds for the thread: after "from CCMetrics import CCDiceMetric" at the top
# of a training script no tensor that is computed has a gradient, torch.is_grad_enabled() is False, and the first
# loss.backward() raises "element 0 of tensors does not require grad", which names neither the import nor the package.
# A validation loop within torch.no_grad() does not switch them on again when it ends; torch.enable_grad() does. The
# same training without the import, or with MONAI's own DiceMetric, is right. The documentation shows the metrics alone,
# and says nothing of it. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check CCMetrics==0.0.3 torch==2.13.0 monai==1.6.1 numpy==2.4.6
cat > show.py <<'PY'
import sys
import warnings
from importlib.metadata import version

import torch

warnings.simplefilter("ignore")
if sys.argv[1] == "MONAI":
    from monai.metrics import DiceMetric
elif sys.argv[1] == "CCMetrics":
    from CCMetrics import CCDiceMetric

torch.manual_seed(0)
image = torch.rand(1, 1, 16, 16)
truth = (image > 0.5).float()
model = torch.nn.Conv2d(1, 1, 3, padding=1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)


def step():
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(image), truth)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


print(f"{sys.argv[1]}: torch {version('torch')}, CCMetrics {version('CCMetrics')}, monai {version('monai')}")
print(f"   gradients: {torch.is_grad_enabled()}; the weight asks for one: {model.weight.requires_grad}")
if sys.argv[1] != "CCMetrics":
    losses = [step() for _ in range(20)]
    print(f"   loss {losses[0]:.3f}, after 20 steps {losses[-1]:.3f}")
    assert torch.is_grad_enabled() and losses[-1] < 0.9 * losses[0]
    sys.exit()
assert not torch.is_grad_enabled() and model.weight.requires_grad
try:
    step()
except RuntimeError as error:
    print(f"   a training step: {error}")
    assert "does not require grad" in str(error)
else:
    sys.exit(1)
with torch.no_grad():
    model(image)
print(f"   after a validation loop: {torch.is_grad_enabled()}")
assert not torch.is_grad_enabled()
with torch.enable_grad():
    losses = [step() for _ in range(20)]
print(f"   within enable_grad: loss {losses[0]:.3f}, after 20 steps {losses[-1]:.3f}")
assert losses[-1] < 0.9 * losses[0]
PY
for imported in nothing MONAI CCMetrics; do venv/bin/python show.py "$imported"; done
