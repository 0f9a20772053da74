#!/usr/bin/env bash
# cellpose's average_precision takes the smallest number of each label map for the background, also where
# there is none, as in a crop of a confluent layer: it then counts one object too few. Of four cells found
# exactly, 4 are true positives, -1 false positives and -1 false negatives: an AP of 2.0; with two found
# and two made one, 0.67 in place of 0.4. Of an image without cells, rightly left empty, AP is not a number.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 cellpose==4.2.1.1
cat > show.py <<'PY'
import sys
import warnings
from importlib.metadata import version

import numpy as np
from cellpose.metrics import average_precision

warnings.simplefilter("ignore")
cells = np.repeat(np.repeat([[1, 2], [3, 4]], 16, axis=0), 16, axis=1)
framed = np.pad(cells, 1)  # the same cells with a border of background
missed = np.where(cells == 4, 3, cells)  # of four, two are right: the other two are one
empty = np.zeros_like(cells)
found = {}
for name, truth, predicted in (
    ("all found, with background", framed, framed),
    ("all found, without background", cells, cells),
    ("two found, with background", framed, np.pad(missed, 1)),
    ("two found, without background", cells, missed),
    ("no cells", empty, empty),
):
    values = [float(v[0]) for v in average_precision(truth, predicted, threshold=[0.6])]
    found[name] = [round(v, 2) for v in values]
    print(f"cellpose {version('cellpose')}, {name}: AP {values[0]:.2f}, true positives {values[1]:.0f}, "
          f"false positives {values[2]:.0f}, false negatives {values[3]:.0f}")
nothing = found.pop("no cells")
sys.exit(not (np.isnan(nothing[0]) and nothing[1:] == [0, 0, 0] and found == {
    "all found, with background": [1, 4, 0, 0],
    "all found, without background": [2, 4, -1, -1],
    "two found, with background": [0.4, 2, 1, 2],
    "two found, without background": [0.67, 2, 0, 1],
}))
PY
venv/bin/python show.py
