"""What can go wrong with a benchmark, told in one line that names the remedy."""

from __future__ import annotations


class BenchmarkError(ValueError):
    """A benchmark that cannot be run as asked."""
