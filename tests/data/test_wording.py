from __future__ import annotations

from b2inst.data.wording import counted, shortened


def test_one_is_singular_and_all_else_plural() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]


def test_only_the_first_names_are_listed() -> None:
    assert shortened(["a", "b"]) == "a, b"
    assert shortened([*"abc"], 2) == "a, b, …"
