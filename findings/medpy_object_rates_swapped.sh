#!/usr/bin/env bash
# MedPy 0.5.2 says of obj_tpr and obj_fpr, rates of objects found, that the reference "should be passed second", and
# its examples have it so: of [1,0,1,0,1], the result [1,0,1,0,0] has an obj_tpr of 0.67 and an obj_fpr of 0. The
# functions return 1 and 0.33, as for the two arrays the other way round. So a result that has missed 7 of 10 cells
# has the best obj_tpr, 1, and an obj_fpr of 0.7 without a wrong object; one that has all cells and 30 false ones
# has an obj_tpr of 0.25 and the best obj_fpr, 0. obj_asd, the distance of the result's outlines from the reference's,
# is of the two the other way round too: of one object in each, it is MedPy's own asd with result and reference
# exchanged. asd, and the pixels' precision and recall, are as documented. Nothing is said. Exits 1 if that changes.
# Without MedPy's dependency SimpleITK, which is for reading files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
venv/bin/pip install -q --disable-pip-version-check --no-deps medpy==0.5.2
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from medpy.metric.binary import asd, obj_asd, obj_fpr, obj_tpr, precision, recall

warnings.simplefilter("error")


def rates(result, reference):
    return [round(float(rate(result, reference)), 2) for rate in (obj_tpr, obj_fpr, recall, precision)]


def cells(count):
    image = np.zeros((60, 100), np.uint8)
    for index in range(count):
        row, column = divmod(index, 10)
        image[15 * row + 2: 15 * row + 8, 10 * column + 2: 10 * column + 8] = 1
    return image


print("MedPy", version("medpy"))
found = {}
for name, result, reference in (
    ("of the documentation", np.array([1, 0, 1, 0, 0]), np.array([1, 0, 1, 0, 1])),
    ("7 of 10 cells missed", cells(3), cells(10)),
    ("10 of 10 cells and 30 more", cells(40), cells(10)),
):
    found[name] = rates(result, reference)
    print(f"   {name}: obj_tpr, obj_fpr, recall, precision of pixels {found[name]}; the other way round "
          f"{rates(reference, result)}")
assert found["of the documentation"] == [1, 0.33, 0.67, 1]  # documented: 0.67 and 0
assert found["7 of 10 cells missed"] == [1, 0.7, 0.3, 1]
assert found["10 of 10 cells and 30 more"] == [0.25, 0, 1, 0.25]
full, line = np.ones((3, 3), int), np.array([[0, 1, 0]] * 3)
distances = [[round(float(f(*pair)), 2) for pair in ((full, line), (line, full))] for f in (asd, obj_asd)]
print("   a square of 3×3 as the result, its middle column as the reference, and the other way round: asd "
      f"{distances[0]}, obj_asd {distances[1]}")
assert distances == [[0.75, 0.33], [0.33, 0.75]]
PY
venv/bin/python show.py
