#!/usr/bin/env bash
# keras 3.15.1 runs by NumPy, JAX or PyTorch, of which keras.ops should return the same. By PyTorch some operations of
# segmentation networks do not. average_pool with "same" (AveragePooling2D) counts the last row and column twice where
# the padding is odd: 3×3 at stride 2 on an even size makes 0.67 of a line of ones in the last column, where NumPy and
# JAX have 0.5. pad with "symmetric", a mirror, repeats the border pixel instead. take without an axis reads another
# element for -1, the last one. resize by "bicubic" without antialias, the default, takes another kernel (a = -0.75, not
# -0.5), up to 0.05 off in an image of numbers from 0 to 1. gaussian_blur with an even kernel makes the image a pixel
# larger. On odd sizes, with "reflect", an axis, "bilinear", antialias and odd kernels all agree. Nothing is said.
# (Pooling and pad are repaired in its repository, pull requests 23233 and 23230, after 3.15.1, its newest release.)
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 torch==2.13.0 numpy==2.4.6
cat > compute.py <<'PY'
import sys

import keras
import numpy as np
from keras import ops

given = np.load("given.npz")
line, image, table = given["line"], given["image"], given["table"]
last = dict(data_format="channels_last")
found = {
    "average_pool, 3×3, stride 2, 8×8": ops.average_pool(line, 3, 2, "same", **last),
    "average_pool, 3×3, stride 2, 9×9": ops.average_pool(given["odd"], 3, 2, "same", **last),
    "average_pool, 3×3, stride 1, 8×8": ops.average_pool(line, 3, 1, "same", **last),
    "pad, symmetric": ops.pad(table, ((1, 2), (2, 1)), "symmetric"),
    "pad, reflect": ops.pad(table, ((1, 2), (2, 1)), "reflect"),
    "take, no axis": ops.take(table, np.array([0, -1])),
    "take, axis 1": ops.take(table, np.array([0, -1]), 1),
    "resize, bicubic": ops.image.resize(image, (16, 16), "bicubic", **last),
    "resize, bicubic, a point": ops.image.resize(given["point"], (16, 16), "bicubic", **last),
    "resize, bicubic, antialias": ops.image.resize(image, (16, 16), "bicubic", antialias=True, **last),
    "resize, bilinear": ops.image.resize(image, (16, 16), "bilinear", **last),
    "gaussian_blur, 4×4": ops.image.gaussian_blur(image, (4, 4), (1.0, 1.0), **last),
    "gaussian_blur, 3×3": ops.image.gaussian_blur(image, (3, 3), (1.0, 1.0), **last),
}
np.savez(f"{sys.argv[1]}.npz", **{name: ops.convert_to_numpy(a) for name, a in found.items()})
assert keras.backend.backend() == sys.argv[1]
PY
cat > show.py <<'PY'
from importlib.metadata import version

import numpy as np

print(*(f"{name} {version(name)}" for name in ("keras", "numpy", "jax", "torch")))
by = {name: np.load(f"{name}.npz") for name in ("numpy", "jax", "torch")}
different = []
for name in by["numpy"]:
    a, b, c = (by[who][name] for who in by)
    assert a.shape == b.shape and np.allclose(a, b, atol=1e-3), name
    if a.shape == c.shape and np.allclose(a, c, atol=1e-3):
        said = "all agree"
    else:
        different.append(name)
        said = f"{a.shape}, by PyTorch {c.shape}"
        if a.shape == c.shape:
            said = f"PyTorch's off by up to {np.abs(a - c).max():.2f}"
    print(f"{name}: {said}")
given = np.load("given.npz")
pooled = [[round(float(v), 2) for v in by[who]["average_pool, 3×3, stride 2, 8×8"][0, 0, :, 0]]
          for who in ("jax", "torch")]
print("average_pool of a line of ones in the last column:", pooled[0], "by PyTorch", pooled[1])
assert pooled == [[0, 0, 0, 0.5], [0, 0, 0, 0.67]]  # of two columns inside, the first of zeros, the last of ones
assert np.array_equal(by["jax"]["pad, symmetric"], np.pad(given["table"], ((1, 2), (2, 1)), "symmetric"))
print("pad, symmetric, a row:", by["jax"]["pad, symmetric"][1].tolist(), "by PyTorch",
      by["torch"]["pad, symmetric"][1].tolist())
print("take of -1:", by["jax"]["take, no axis"][1], "by PyTorch", by["torch"]["take, no axis"][1])
assert by["jax"]["take, no axis"][1] == given["table"].reshape(-1)[-1]
at = [float(by[who]["resize, bicubic, a point"].max()) ** 0.5 for who in ("jax", "torch")]
print(f"bicubic, the kernel at a quarter of a pixel: {at[0]:.4f}, by PyTorch {at[1]:.4f}")
for value, a in zip(at, (-0.5, -0.75)):
    assert np.isclose(value, ((a + 2) * 0.25 - (a + 3)) * 0.0625 + 1, atol=1e-4)
assert different == ["average_pool, 3×3, stride 2, 8×8", "pad, symmetric", "take, no axis", "resize, bicubic",
                     "resize, bicubic, a point", "gaussian_blur, 4×4"]
PY
venv/bin/python - <<'PY'
import numpy as np

line = np.zeros((1, 8, 8, 1), np.float32)
line[:, :, -1] = 1
point = np.zeros((1, 8, 8, 1), np.float32)
point[:, 4, 4] = 1
rng = np.random.default_rng(0)
np.savez("given.npz", line=line, point=point, odd=rng.random((1, 9, 9, 1), np.float32),
         image=rng.random((1, 8, 8, 1), np.float32), table=np.arange(30, dtype=np.float32).reshape(6, 5))
PY
for backend in numpy jax torch; do
  KERAS_BACKEND=$backend JAX_PLATFORMS=cpu KERAS_HOME=$folder nice -n 10 venv/bin/python compute.py $backend 2> said ||
    { cat said; exit 1; }
  [ ! -s said ] || { cat said; exit 1; }
done
venv/bin/python show.py
