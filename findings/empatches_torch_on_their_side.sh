#!/usr/bin/env bash
# empatches 0.2.3 cuts images into patches and merges what a network made of them. A batch of PyTorch (typ="torch"),
# whose shape is B×C×H×W, comes back from merge_batch as B×C×W×H: each image is mirrored along its diagonal, and of one
# that is square the shape does not tell. As "tf" all is right. mode="avg", "mean/average value of overlapping area",
# takes the mean of each patch and what was there, so that of four patches the first counts an eighth and the last a
# half, and takes 0 for not there: where two patches say 0 and two say 1, it has 0.625, and where the first says 0 and
# the second 1, it has 1. mode="max" begins with 0, so that it has 0 for all that is below, as logits of background are.
# patch_via_indices takes the depth of a volume's patches from the end of the columns on. Nothing is said. Exits 1 if
# that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check empatches==0.2.3 numpy==2.4.6 torch==2.13.0
cat > show.py <<'PY'
from importlib.metadata import version

import numpy as np
import torch
from empatches import BatchPatching, EMPatches, patch_via_indices

print(f"empatches {version('empatches')}, torch {version('torch')}")
image = np.zeros((64, 64, 2), np.float32)
image[5:15, 20:60] = 1  # an object that lies
for kind in ("tf", "torch"):
    batch = np.stack([image, image])
    if kind == "torch":
        batch = torch.from_numpy(batch).permute(0, 3, 1, 2)
    patching = BatchPatching(32, overlap=0.5, typ=kind)
    patches, indices = patching.patch_batch(batch)
    merged = patching.merge_batch([[np.asarray(p) for p in each] for each in patches], indices)
    mask = merged[0, 0] if kind == "torch" else merged[0, ..., 0]
    rows, columns = np.nonzero(mask)
    print(f"   {kind}: {tuple(batch.shape)}, merged {merged.shape}; the object, in rows 5 to 14 and columns 20 to 59, "
          f"is in rows {rows.min()} to {rows.max()} and columns {columns.min()} to {columns.max()}")
    assert merged.shape == tuple(batch.shape)
    assert (mask == (image[..., 0].T if kind == "torch" else image[..., 0])).all()
wide = torch.zeros(1, 3, 48, 96)
patching = BatchPatching(32, overlap=0.5, typ="torch")
patches, indices = patching.patch_batch(wide)
shape = patching.merge_batch([[p.numpy() for p in patches[0]]], indices).shape
print(f"   of {tuple(wide.shape)}: {shape}")
assert shape == (1, 3, 96, 48)


def merge(values, mode):
    """Patches of one value each, merged by empatches; and their sum and number at each pixel."""
    patches, places = EMPatches().extract_patches(np.zeros((48, 48), np.float32), 32, overlap=0.5)
    assert len(patches) == len(values)
    total, number = np.zeros((2, 48, 48))
    for value, (top, bottom, left, right) in zip(values, places, strict=True):
        total[top:bottom, left:right] += value
        number[top:bottom, left:right] += 1
    merged = EMPatches().merge_patches([np.full_like(patches[0], v) for v in values], places, mode=mode)
    return float(merged[24, 24]), float(merged[24, 8]), total[24, 24] / number[24, 24], total[24, 8] / number[24, 8]


for values, expected in (((0.8, 0.4, 0.4, 0.2), (0.35, 0.6)), ((0, 1, 0, 1), (0.75, 1)), ((1, 1, 0, 0), (0.25, 1)),
                         ((1, 0, 0, 1), (0.625, 0.5))):
    four, two, mean_four, mean_two = merge(values, "avg")
    print(f"   avg of patches of {values}: {four:.3f} where all four are, mean {mean_four:.3f}; {two:.3f} where the "
          f"first two are, mean {mean_two:.3f}")
    assert np.allclose((four, two), expected), (four, two)
four, two = merge((-1, -2, -3, -4), "max")[:2]
print(f"   max of -1, -2, -3 and -4: {four:g}; of -1 and -2: {two:g}")
assert four == two == 0

volume = np.arange(40 * 48 * 56).reshape(40, 48, 56)
patches, places = EMPatches().extract_patches(volume, 32, overlap=0.5, vox=True)
again = patch_via_indices(volume, places)
same = sum(np.array_equal(a, b) for a, b in zip(patches, again, strict=True))
print(f"   patches of a volume: {len(patches)} of {patches[0].shape}; by their indices {again[0].shape} and so on, "
      f"{same} of {len(patches)} the same")
assert all(p.shape == (32, 32, 32) for p in patches) and same == 0
PY
OMP_NUM_THREADS=1 venv/bin/python show.py
