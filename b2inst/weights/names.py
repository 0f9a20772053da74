"""Tables of names: published tensors and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Rows (published, ours) of names without their last component (weight, bias, …), which stays.
#: ``{n}`` is a number, ``{n-1}`` one less; published names may have groups as in regular
#: expressions. Of the rows that match a name, the first is used.
Table = tuple[tuple[str, str], ...]

_NUMBER = re.compile(r"\{(\w+?)([+-]\d+)?\}")


def translate(names: Iterable[str], table: Table) -> dict[str, str]:
    """Our name of each published tensor; those that no row matches are left out."""
    rows = [
        (re.compile(_NUMBER.sub(r"(?P<\1>\\d+)", theirs.replace(".", r"\."))), ours)
        for theirs, ours in table
    ]
    translated = {}
    for name in names:
        module, dot, last = name.rpartition(".")
        for pattern, ours in rows:
            if match := pattern.fullmatch(module):
                numbers = match.groupdict()
                own = _NUMBER.sub(lambda slot: str(int(numbers[slot[1]]) + int(slot[2] or 0)), ours)  # noqa: B023
                translated[name] = own + dot + last
                break
    return translated


def grouped(names: Iterable[str]) -> str:
    """List names in one line, those of a module together: ``a.b.{weight, bias}``."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, dot, last = name.rpartition(".")
        modules.setdefault(module + dot, []).append(last)
    return ", ".join(
        module + (last[0] if len(last) == 1 else f"{{{', '.join(last)}}}")
        for module, last in modules.items()
    )
