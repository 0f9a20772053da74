"""The error of everything that reads or writes data."""

from __future__ import annotations


class DataError(ValueError):
    """Something is wrong with the data; the message is one line that names file, value, remedy."""
