"""Number for number against published implementations: ``make verify``."""

from __future__ import annotations

import os
from collections.abc import Callable

from reference import blendmask, centermask, condinst, pointrend, yolact
from reference.comparison import Comparison
from reference.errors import VerificationError
from reference.fixtures import Case, family, list_cases, read_case
from reference.report import report, summary

__all__ = ["Comparison", "VerificationError", "list_cases", "report", "summary", "verify"]

#: What compares a case, by the first word of its name.
FAMILIES: dict[str, Callable[[Case, Callable[[str], None]], list[Comparison]]] = {
    "blendmask": blendmask.verify,
    "centermask": centermask.verify,
    "condinst": condinst.verify,
    "pointrend": pointrend.verify,
    "yolact": yolact.verify,
}


def verify(
    folder: str | os.PathLike[str], name: str, tell: Callable[[str], None] = lambda _: None
) -> list[Comparison]:
    """Compare our model with every value of a case.

    Args:
        folder: of the reference fixtures.
        name: of the case, such as ``blendmask_attn14_seed0``.
        tell: is called with what is done next.

    Raises:
        VerificationError: no such case, one of a family that cannot be compared, or fixtures that
            cannot be read.
    """
    case = read_case(folder, name)
    if family(name) not in FAMILIES:
        able = [other for other in list_cases(folder) if family(other) in FAMILIES]
        raise VerificationError(
            f"{name}: cases of this family cannot be compared; in {folder} these can: "
            f"{', '.join(able) or 'none'}"
        )
    return FAMILIES[family(name)](case, tell)
