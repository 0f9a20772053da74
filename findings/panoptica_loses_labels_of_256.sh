#!/usr/bin/env bash
# panoptica 2.1.7 cuts empty borders off label maps before it evaluates them. What is empty it tells by adding the two
# maps, in 8 bits if no label is above 255, whatever the type that they come in; there the labels 128 and 128 add up to
# 0, as do 56 and 200. Cells with such labels that lie further out than all others are cut off too, and count as if
# neither map had them: of the cells 127 and 128, of which the result has the second one exactly, it finds none, with an
# RQ and a Dice of 0 where 0.67 is right; with both found there is one; one that is 6 pixels wide for 10 is cut off
# where it agrees with the truth, and counts as missed and as false. With labels 126 and 127, or 127 and 256, all is
# right. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.2.6 scipy==1.17.1 panoptica==2.1.7
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from panoptica import InputType, Metric, NaiveThresholdMatching, Panoptica_Evaluator
from panoptica.utils.citation_reminder import disable_citation_reminder

disable_citation_reminder()
warnings.simplefilter("error")
print(f"panoptica {version('panoptica')}, numpy {np.__version__}")


def panoptica(truth, result):
    evaluator = Panoptica_Evaluator(expected_input=InputType.UNMATCHED_INSTANCE, instance_metrics=[Metric.IOU],
                                    instance_matcher=NaiveThresholdMatching(), global_metrics=[Metric.DSC])
    found = next(iter(evaluator.evaluate(result, truth, verbose=False, log_times=False).values()))
    return [found.tp, found.fp, found.fn, *(round(float(v), 2) for v in (found.rq, found.sq, found.global_bin_dsc))]


def counted(truth, result):
    """The same by the definitions: pairs with an IoU of at least 0.5, here with at most one partner each."""
    ious = []
    for t in set(truth[truth > 0]):
        for r in set(result[result > 0]):
            iou = ((truth == t) & (result == r)).sum() / ((truth == t) | (result == r)).sum()
            ious += [iou] if iou >= 0.5 else []
    right, n, m = len(ious), len(set(truth[truth > 0])), len(set(result[result > 0]))
    both = ((truth > 0) & (result > 0)).sum()
    dice = 2 * both / ((truth > 0).sum() + (result > 0).sum())
    return [right, m - right, n - right, *(round(float(v), 2) for v in (2 * right / (n + m), np.mean(ious), dice))]


def cells(labels, widths=(10, 10)):
    """Two cells, the first one in the middle, the second one in a corner."""
    image = np.zeros((60, 60), np.int32)
    for label, corner, width in zip(labels, (30, 5), widths):
        image[corner:corner + 10, corner:corner + width] = label
    return image


cases = {"one of two found": ((1, 0, 10), [1, 0, 1, 0.67, 1.0, 0.67], [0, 0, 1, 0.0, 0.0, 0.0]),
         "the second one too narrow": ((1, 1, 6), [2, 0, 0, 1.0, 0.8, 0.89], [1, 1, 1, 0.5, 1.0, 0.86]),
         "both found": ((1, 1, 10), [2, 0, 0, 1.0, 1.0, 1.0], [1, 0, 0, 1.0, 1.0, 1.0])}
for name, ((second, first, width), right, wrong) in cases.items():
    for labels in ((127, 128), (126, 127), (127, 256)):
        truth = cells(labels)
        result = cells((labels[0] * first, labels[1] * second), (10, width))
        got, want = panoptica(truth, result), counted(truth, result)
        print(f"   cells {labels[0]} and {labels[1]}, {name}: TP, FP, FN, RQ, SQ and Dice {got}, "
              f"by the definitions {want}")
        assert want == right and got == (wrong if labels[1] == 128 else right)
PY
venv/bin/python show.py
