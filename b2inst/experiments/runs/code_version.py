"""Versions of the code behind each number.

Raise a version in the commit that may change the numbers; runs of an older version are then
reported as stale. ``tests/experiments/test_code_version.py`` fails if numbers change and the
version does not.
"""

from __future__ import annotations

#: Decides the weights of a run: data, models, losses, schedule.
TRAINING = 1

#: Decides the predictions of given weights, and their speed.
PREDICTION = 1

#: Decides the metrics of given predictions.
EVALUATION = 1
