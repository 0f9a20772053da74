"""The one error of the evaluation package."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Predictions or ground truth that cannot be evaluated; says which, and what to do."""
