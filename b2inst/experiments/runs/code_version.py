"""Versions of the code behind each number.

Raise a version in the commit that may change the numbers; runs of an older version are then
reported as stale. ``tests/experiments/test_code_version.py`` fails if numbers change and the
version does not.
"""

from __future__ import annotations

TRAINING = 1  #: decides the weights of a run: data, models, losses, schedule
PREDICTION = 1  #: decides the predictions of given weights, and their speed
EVALUATION = 1  #: decides the metrics of given predictions
