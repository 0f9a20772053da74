#!/usr/bin/env bash
# torchvision's split_normalization_params, which its training references use to exempt norms from weight
# decay, asks "if next(module.children(), None)" to find out whether a module has children. An empty
# ModuleList or Sequential is false, so a module whose first child is one (a head with zero convolutions,
# for example) counts as a leaf: all parameters below it are listed there, and once more at their own
# module. torch.optim then refuses them, or warns and updates them twice, depending on the groups.
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
from torch import nn
from torchvision.ops._utils import split_normalization_params


class Head(nn.Module):
    """Some convolutions, then a predictor and a norm."""

    def __init__(self, num_convs):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3) for _ in range(num_convs))
        self.predictor = nn.Conv2d(4, 2, 1)
        self.norm = nn.GroupNorm(1, 2)


found = {}
for num_convs in (1, 0):
    head = Head(num_convs)
    norm, other = split_normalization_params(head)
    found[num_convs] = len(list(head.parameters())), len(norm) + len(other)
    print("convolutions", num_convs, "parameters", found[num_convs][0], "listed", found[num_convs][1])

groups = [{"params": other, "weight_decay": 1e-4}, {"params": norm, "weight_decay": 0.0}]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        torch.optim.SGD(groups, lr=0.1)
        refused = ""
    except ValueError as error:
        refused = str(error)
print("SGD:", refused)

usual = found[1][0] == found[1][1]
twice = found[0] == (4, 8)
sys.exit(not (usual and twice and "more than one parameter group" in refused))
PY
venv/bin/python show.py
