#!/usr/bin/env bash
# torchmetrics 1.9.0's generalized Dice score weighs each class of an image by 1 / its pixels². For a class that the
# image does not have, whose weight is infinite, it takes the greatest of the batch, and from a wrong place of the
# table, so that the score of one image and its result depends on what is evaluated with it and in which order: an image
# with one pixel wrongly given to a class that it lacks has 1.00 alone, as if the pixel were right, 0.98 before an image
# that has one pixel of this class and 0.08 after it; with another image it is the other way round. 0.98 is right with
# the greatest weight that the image has itself. per_class=True counts an image that rightly has nothing of a class as
# 0: all found exactly, a class that one of four images has is 0.25. Images that have all classes are right. The
# documentation says nothing of it, nor is anything said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import torch
from torchmetrics.functional.segmentation import generalized_dice_score
from torchmetrics.segmentation import GeneralizedDiceScore

warnings.simplefilter("error")
print(f"torchmetrics {version('torchmetrics')}, torch {version('torch')}")


def right(result, truth, classes=3):
    """The score of one image, by the formula; classes that it lacks with the greatest weight."""
    sizes = [int((truth == c).sum()) for c in range(classes)]
    weights = [1 / n**2 if n else max(1 / m**2 for m in sizes if m) for n in sizes]
    both = sum(w * int(((result == c) & (truth == c)).sum()) for c, w in enumerate(weights))
    return 2 * both / sum(w * (int((result == c).sum()) + n) for c, (w, n) in enumerate(zip(weights, sizes)))


def scores(results, truths, **options):
    return generalized_dice_score(torch.stack(results), torch.stack(truths), num_classes=3, input_format="index",
                                  **options)


first = torch.zeros(20, 30, dtype=torch.long)
first[5:10, 5:10] = 1
wrong = first.clone()
wrong[15, 20] = 2  # a pixel of a class that the image does not have
second = first.clone()
second[0, 0] = 2
third = torch.zeros(20, 30, dtype=torch.long)
third[5, 5] = 1
third[10:15, 10:15] = 2

found = {}
for name, results, truths in [
    ("alone", [wrong], [first]),
    ("before one of the class", [wrong, second], [first, second]),
    ("after one of the class", [second, wrong], [second, first]),
    ("before another", [wrong, third], [first, third]),
    ("after another", [third, wrong], [third, first]),
]:
    each = scores(results, truths)
    found[name] = round(each[next(i for i, r in enumerate(results) if r is wrong)].item(), 2)
    print(f"   the image {name}: {found[name]:.2f}, by the formula {right(wrong, first):.2f}")
    for result, truth, value in zip(results, truths, each):
        assert result is wrong or (abs(value - right(result, truth)) < 1e-4 and value == 1), value
assert found == {"alone": 1.0, "before one of the class": 0.98, "after one of the class": 0.08, "before another": 0.08,
                 "after another": 0.98}
assert abs(right(wrong, first) - 0.98) < 0.005

truths = [second, first, first, first]
every = GeneralizedDiceScore(num_classes=3, input_format="index", per_class=True)
every.update(torch.stack(truths), torch.stack(truths))
classes = every.compute().tolist()
print(f"   four images, found exactly, one of which has class 2: {classes}")
assert classes == [1, 1, 0.25]
PY
OMP_NUM_THREADS=1 venv/bin/python show.py
