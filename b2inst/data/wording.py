"""Messages: the error of everything that reads or writes data, numbers and lists of names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

#: Numbers, paths and names of files.
_VARYING = re.compile(r"\S*[\d/\\]\S*|\S+\.\w\S*")


class DataError(ValueError):
    """Something is wrong with the data; the message is one line that names file, value, remedy."""


class BadFileError(DataError):
    """A single file of the data cannot be used; commands say if --skip-bad leaves it out."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return "1 image" or "2 images"; ``plural`` is for nouns that do not just take an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def one_line(text: str) -> str:
    """Replace line breaks, which names of classes and files may have, by spaces."""
    return " ".join(text.splitlines())


def shortened(names: Sequence[str], shown: int = 5) -> str:
    """Join the first of some names with commas."""
    return ", ".join([*map(one_line, names[:shown]), *["…"] * (len(names) > shown)])


def folded(messages: Iterable[str], shown: int = 10) -> list[str]:
    """List the first messages of each kind, and say how many more there are.

    Messages are of one kind if they differ in numbers, paths and names of files alone.
    """
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for message in messages:
        kinds[_VARYING.sub("…", message)].append(message)
    lines: list[str] = []
    for kind in kinds.values():
        lines += kind[:shown]
        if more := kind[shown:]:
            lines.append(f"… and {len(more)} more of this kind, such as {more[-1]}")
    return lines
