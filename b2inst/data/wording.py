"""Messages: the error of everything that reads or writes data, numbers and lists of names."""

from __future__ import annotations

from collections.abc import Sequence


class DataError(ValueError):
    """Something is wrong with the data; the message is one line that names file, value, remedy."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return "1 image" or "2 images"; ``plural`` is for nouns that do not just take an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def shortened(names: Sequence[str], shown: int = 5) -> str:
    """Join the first of some names with commas."""
    return ", ".join([*names[:shown], *["…"] * (len(names) > shown)])
