#!/usr/bin/env bash
# Four images of nuclei, two of them without any, all found exactly. stardist's matching_dataset has an F1, an
# accuracy and a panoptic quality of 1 over all objects, and of 0.5 with by_image=True: an image rightly left
# empty counts as one where all is wrong. cellseg-metrics gives such an image 0 as well, so that the means
# are 0.5; panoptica's value is not a number. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.2.6 scikit-image==0.26.0 stardist==0.9.2 cellseg-metrics==0.2.0 panoptica==2.1.7
cat > show.py <<'PY'
import logging
import math
import sys
from importlib.metadata import version

import cellseg_metrics
import numpy as np
from panoptica import InputType, NaiveThresholdMatching, Panoptica_Evaluator
from stardist.matching import matching_dataset

logging.disable()
nuclei = np.zeros((64, 64), np.int32)
nuclei[5:20, 5:20], nuclei[30:50, 30:50] = 1, 2
empty = np.zeros_like(nuclei)
images = [nuclei, empty, nuclei.T.copy(), empty]

found = {}
for name, options in (("over all", {}), ("by image", {"by_image": True})):
    all_of = matching_dataset(images, images, show_progress=False, **options)
    found[name] = [float(v) for v in (all_of.f1, all_of.accuracy, all_of.panoptic_quality)]
    print(f"stardist {version('stardist')}, {name}: F1, accuracy, panoptic quality {found[name]}")
each = [
    (cellseg_metrics.panoptic_quality(i, i)["pq"], cellseg_metrics.average_precision(i, i),
     cellseg_metrics.aggregated_jaccard_index(i, i))
    for i in images
]
found["cellseg-metrics"] = [round(float(v), 4) for v in np.mean(each, axis=0)]
print(f"cellseg-metrics {version('cellseg-metrics')}: mean panoptic quality, average precision and "
      f"aggregated Jaccard index {found['cellseg-metrics']}")
evaluator = Panoptica_Evaluator(
    expected_input=InputType.UNMATCHED_INSTANCE, instance_matcher=NaiveThresholdMatching()
)
labels = [i.astype(np.uint8) for i in images]
results = [evaluator.evaluate(i, i.copy(), verbose=False)["ungrouped"].to_dict() for i in labels]
qualities = [float(r["pq"]) for r in results]
print(f"panoptica {version('panoptica')}: panoptic qualities {qualities}")
assert [q for q in qualities if not math.isnan(q)] == [1.0, 1.0]
sys.exit(found != {"over all": [1.0] * 3, "by image": [0.5] * 3, "cellseg-metrics": [0.5] * 3})
PY
venv/bin/python show.py
