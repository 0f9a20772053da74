from __future__ import annotations

from b2inst.data.wording import counted, folded, shortened


def test_one_is_singular_and_all_else_plural() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]


def test_only_the_first_names_are_listed() -> None:
    assert shortened(["a", "b"]) == "a, b"
    assert shortened([*"abc"], 2) == "a, b, …"
    assert shortened(["cat\n", "fire\r\ntruck"]) == "cat, fire truck", "one line"


def test_messages_of_one_kind_are_folded() -> None:
    size = [f"set/a{i}.json: image {i}: width {30 * i}, photo.{i}.png has 40" for i in range(99)]
    lines = folded([*size, "b.json: no categories", "photo.jpg: cannot be read"], shown=2)
    assert lines == [
        *size[:2],
        f"… and 97 more of this kind, such as {size[98]}",
        "b.json: no categories",
        "photo.jpg: cannot be read",
    ]
    missing = [f"images/{name}.jpg: no such file" for name in ("photo", "cat")]
    assert folded(missing, shown=1)[1:] == [f"… and 1 more of this kind, such as {missing[1]}"]
