"""The fingerprint follows the code, not its comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.fingerprint import TRAINING_CODE, code_fingerprint

SOURCE = '''"""A module."""

class A:
    """A class."""

    def f(self, x):
        """Doc."""
        return x + 1  # why
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/a.py").write_text(SOURCE)
    (tmp_path / "losses.py").write_text("x = 1\n")
    (tmp_path / "viz.py").write_text("y = 1\n")
    return tmp_path


def _fingerprint(package: Path) -> str:
    code_fingerprint.cache_clear()
    return code_fingerprint(("ops", "losses.py", "missing"), package)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A module.", "Another."),
        ('"""Doc."""', '"""Other words."""'),
        ('        """Doc."""\n', ""),
        ("  # why", ""),
        ("class A", "\n\nclass A"),
        ("x + 1", "(x +\n            1)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(package: Path, old: str, new: str) -> None:
    before = _fingerprint(package)
    assert old in SOURCE
    (package / "ops/a.py").write_text(SOURCE.replace(old, new))
    assert _fingerprint(package) == before


def test_code_counts(package: Path) -> None:
    seen = {_fingerprint(package)}
    (package / "ops/a.py").write_text(SOURCE.replace("+ 1", "+ 2"))
    seen.add(_fingerprint(package))
    (package / "ops/a.py").rename(package / "ops/b.py")
    seen.add(_fingerprint(package))
    (package / "ops/c.py").write_text("")
    seen.add(_fingerprint(package))
    (package / "losses.py").write_text("x = 2\n")
    seen.add(_fingerprint(package))
    assert len(seen) == 5


def test_other_parts_do_not(package: Path) -> None:
    before = _fingerprint(package)
    (package / "viz.py").write_text("y = 2\n")
    assert _fingerprint(package) == before


def test_a_string_that_is_no_docstring_counts(package: Path) -> None:
    before = _fingerprint(package)
    (package / "ops/a.py").write_text(SOURCE.replace("return x + 1", "return 'x'"))
    changed = _fingerprint(package)
    (package / "ops/a.py").write_text(SOURCE.replace("return x + 1", "return 'y'"))
    assert len({before, changed, _fingerprint(package)}) == 3


def test_the_package_has_all_the_parts() -> None:
    import b2inst

    code_fingerprint.cache_clear()
    assert all((Path(b2inst.__file__).parent / part).exists() for part in TRAINING_CODE)
    assert len(code_fingerprint(TRAINING_CODE)) == 12
