#!/usr/bin/env bash
# miseval 1.3.0, metrics for masks, hands the two masks themselves to hausdorff's hausdorff_distance, which takes
# lists of points: each row of a mask is a point to it. So its "Hausdorff Distance" (HD) of an object that is 60
# pixels too low is 0, as is that of one twice as high; 60 pixels to the right it is 4.5. HD should be 60, 20 and
# 60, as by SciPy's directed_hausdorff of the objects' pixels. With classes, each has the same HD, also one that is
# right. Its "Average Hausdorff Distance" is the maximum: 20 for an object which is right but for one stray pixel
# 20 pixels away. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 hausdorff==0.2.6 numba==0.68.1 \
  scikit-learn==1.9.1 miseval==1.3.0
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from scipy.spatial.distance import directed_hausdorff

warnings.simplefilter("error")
from miseval import evaluate  # noqa: E402


def square(y, x, height=20, width=20):
    mask = np.zeros((100, 100), np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def distance(a, b):
    """The greatest distance of a pixel of either object from the other object."""
    a, b = np.argwhere(a), np.argwhere(b)
    return max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])


truth = square(10, 10)
stray = truth.copy()
stray[49, 15] = 1
print("miseval", version("miseval"), "hausdorff", version("hausdorff"))
found = {}
for name, result in (
    ("1 pixel lower", square(11, 10)),
    ("60 pixels lower", square(70, 10)),
    ("twice as high", square(10, 10, height=40)),
    ("60 pixels to the right", square(10, 70)),
    ("with a stray pixel", stray),
):
    values = [float(evaluate(truth, result, metric=metric)) for metric in ("HD", "AHD")]
    found[name] = [round(v, 1) for v in (*values, distance(truth, result))]
    print(f"   {name}: HD {found[name][0]}, average {found[name][1]}, meant by HD {found[name][2]}")
assert found == {
    "1 pixel lower": [0, 1, 1],
    "60 pixels lower": [0, 60, 60],
    "twice as high": [0, 20, 20],
    "60 pixels to the right": [4.5, 60, 60],
    "with a stray pixel": [1, 20, 20],
}
classes, other = truth.copy(), truth.copy()
classes[50:70, 10:30] = 2
other[50:70, 60:80] = 2
values = evaluate(classes, other, metric="HD", multi_class=True, n_classes=3)
print("   of classes 1, right, and 2, 50 pixels off: HD", values[1:].round(1))
assert values[1:].round(1).tolist() == [8.9, 8.9]
assert distance(classes == 1, other == 1) == 0 and distance(classes == 2, other == 2) == 50
PY
venv/bin/python show.py
