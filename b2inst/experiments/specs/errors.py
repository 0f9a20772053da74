"""What can go wrong with an experiment, told in one line that names the remedy."""

from __future__ import annotations


class SpecError(ValueError):
    """A spec, profile or table file that does not say something that can be run."""


class RunError(ValueError):
    """A run that did not finish; what it had done is kept."""
