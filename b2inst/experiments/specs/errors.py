"""What can go wrong with an experiment, told in one line that names the remedy."""

from __future__ import annotations


class ExperimentError(ValueError):
    """An experiment that cannot be run, continued or rendered as asked."""


class SpecError(ExperimentError):
    """A spec, profile or table file that does not say something that can be run."""


class RunError(ExperimentError):
    """A run that did not finish; what it had done is kept."""
