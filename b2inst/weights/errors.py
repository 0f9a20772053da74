"""Errors of weights files."""

from __future__ import annotations


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file, the cause, the remedy."""
