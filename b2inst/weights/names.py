"""Tables of names: what published checkpoints call the tensors that have other names here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Rows (theirs, ours). ``{n}`` stands for a number, ``{n-1}`` for one less, and so on.
Table = tuple[tuple[str, str], ...]

_NUMBER = re.compile(r"\{(\w+?)([+-]\d+)?\}")


def translate(names: Iterable[str], table: Table, **known: int) -> dict[str, str]:
    """Our name of each published tensor; those that no row matches are left out.

    The last component of a name (weight, bias, running_mean, …) stays as it is; a row says what
    is before it. The first row that matches counts.

    Args:
        names: of published tensors.
        known: numbers that are known beforehand; others match any number.
    """
    rows = [(re.compile(_pattern(theirs, known)), ours) for theirs, ours in table]
    found = {}
    for name in names:
        module, dot, last = name.rpartition(".")
        for pattern, ours in rows:
            if match := pattern.fullmatch(module):
                numbers = {key: int(value) for key, value in match.groupdict().items()}
                found[name] = _filled(ours, numbers) + dot + last
                break
    return found


def grouped(names: Iterable[str]) -> str:
    """All of the names in one line, those of one module together: ``a.b.{weight, bias}``."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, dot, last = name.rpartition(".")
        modules.setdefault(module + dot, []).append(last)
    return ", ".join(
        module + (last[0] if len(last) == 1 else f"{{{', '.join(last)}}}")
        for module, last in modules.items()
    )


def _pattern(theirs: str, known: Mapping[str, int]) -> str:
    literal = _filled(theirs, known).replace(".", r"\.")
    return _NUMBER.sub(lambda slot: rf"(?P<{slot[1]}>\d+)", literal)


def _filled(text: str, numbers: Mapping[str, int]) -> str:
    def value(slot: re.Match[str]) -> str:
        if slot[1] not in numbers:
            return slot[0]
        return str(numbers[slot[1]] + int(slot[2] or 0))

    return _NUMBER.sub(value, text)
