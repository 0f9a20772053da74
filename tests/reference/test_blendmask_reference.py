"""The published BlendMask, number for number, where the fixtures are."""

from __future__ import annotations

from pathlib import Path

from reference import list_cases, report, verify
from reference.fixtures import family


def test_the_published_blendmask_is_ours(reference: Path) -> None:
    cases = [name for name in list_cases(reference) if family(name) == "blendmask"]
    assert cases
    for name in cases:
        comparisons = verify(reference, name)
        bad = [comparison for comparison in comparisons if not comparison.passed]
        assert len(comparisons) > 100
        assert not bad, f"{name}\n{report(bad)}"
