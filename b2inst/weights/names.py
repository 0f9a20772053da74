"""Tables of names: published tensors and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Rows (published, ours). ``{n}`` stands for a number, ``{n-1}`` for one less, and so on.
Table = tuple[tuple[str, str], ...]

_NUMBER = re.compile(r"\{(\w+?)([+-]\d+)?\}")


def translate(names: Iterable[str], table: Table, **known: int) -> dict[str, str]:
    """Our name of each published tensor; those that no row matches are left out.

    Rows are about all but the last component of a name (weight, bias, …), which stays. The first
    row that matches counts.

    Args:
        names: of published tensors.
        table: rows of names.
        known: values of numbers; others match any number.
    """
    rows = [
        (re.compile(_NUMBER.sub(r"(?P<\1>\\d+)", _filled(row, known).replace(".", r"\."))), ours)
        for row, ours in table
    ]
    translated = {}
    for name in names:
        module, dot, last = name.rpartition(".")
        for pattern, ours in rows:
            if match := pattern.fullmatch(module):
                numbers = {key: int(value) for key, value in match.groupdict().items()}
                translated[name] = _filled(ours, numbers) + dot + last
                break
    return translated


def grouped(names: Iterable[str]) -> str:
    """All of the names in one line, those of a module together: ``a.b.{weight, bias}``."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, dot, last = name.rpartition(".")
        modules.setdefault(module + dot, []).append(last)
    return ", ".join(
        module + (last[0] if len(last) == 1 else f"{{{', '.join(last)}}}")
        for module, last in modules.items()
    )


def _filled(text: str, numbers: Mapping[str, int]) -> str:
    def value(slot: re.Match[str]) -> str:
        if slot[1] not in numbers:
            return slot[0]
        return str(numbers[slot[1]] + int(slot[2] or 0))

    return _NUMBER.sub(value, text)
