#!/usr/bin/env bash
# PyTorch's affine_grid, the first half of a warp or of a crop of a region, multiplies matrices, and so under
# autocast its float32 matrix gives a bfloat16 grid: the identity of an image of 1024 columns reads 642
# places, up to half a pixel off, of 4096 columns 1282 places, up to 3.5 pixels off. grid_sample, the second
# half, computes in float32, from that grid. Without autocast it is exact. Nothing is said. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 numpy==2.4.6
cat > show.py <<'PY'
import sys

import torch
from torch.nn import functional as F

identity = torch.eye(2, 3)[None]


def warped(width):
    """The columns that the identity reads, of an image whose pixels are the numbers of their columns."""
    image = torch.arange(width, dtype=torch.float32).expand(1, 1, 2, width)
    grid = F.affine_grid(identity, [1, 1, 2, width], align_corners=False)
    out = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    off = (out - image).abs().max().item()
    return str(grid.dtype), str(out.dtype), len(out[0, 0, 0].round(decimals=2).unique()), round(off, 1)


found = {}
for width in (256, 1024, 4096):
    found["float32", width] = warped(width)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found["autocast", width] = warped(width)
for (kind, width), (grid, out, places, off) in found.items():
    print(f"{width} columns, {kind}: grid {grid}, result {out} of {places} places, up to {off} pixels off")
exact = all(
    found["float32", width] == ("torch.float32", "torch.float32", width, 0.0) for width in (256, 1024, 4096)
)
rounded = [found["autocast", width][2:] for width in (256, 1024, 4096)]
dtypes = {found["autocast", width][:2] for width in (256, 1024, 4096)}
same = rounded == [(256, 0.0), (642, 0.5), (1282, 3.5)]
sys.exit(not (exact and same and dtypes == {("torch.bfloat16", "torch.float32")}))
PY
venv/bin/python show.py
