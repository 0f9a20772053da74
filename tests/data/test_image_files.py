from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import features

from b2inst.data.image_files import file_names, find_image_files, image_suffixes, walk_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "deep/b.png", "deep/er/c d.png", "one/same.png", "two/same.png", "5.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    (tmp_path / "empty.png").touch()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a.png"),
        ("deep/b.png", "deep/b.png"),
        ("./a.png", "./a.png"),
        ("elsewhere/a.png", "a.png"),
        ("b.png", "deep/b.png"),
        ("C:\\photos\\a.png", "a.png"),
        ("/data/local/a.png", "a.png"),
        ("https://example.org/x/c%20d.png?size=3", "deep/er/c d.png"),
        ("/data/local-files/?d=set/a.png", "a.png"),
        ("A.PNG", "a.png"),
        ("two/same.png", "two/same.png"),
        ("same.png", None),  # which of the two?
        ("empty.png", None),
        ("dangling.png", None),
        ("folder.png", None),
        ("gone.png", None),
        ("", None),
    ],
)
def test_names(name: str, expected: str | None, folder: Path) -> None:
    found = find_image_files(folder, [name])
    assert (found[name].name if name in found else None) == expected
    if expected:
        assert found[name].size == 5
        assert found[name].by_base_name == (name != expected)


def test_a_file_is_one_image(folder: Path) -> None:
    """Two names with one last part are not read from one file."""
    assert find_image_files(folder, ["x/a.png", "y/a.png"]) == {}
    assert list(find_image_files(folder, ["a.png", "y/a.png"])) == ["a.png"]


def test_both_ways_to_write_an_accent(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).write_bytes(b"1")
    assert find_image_files(tmp_path, [composed])[composed].name == decomposed


def test_names_are_relative_to_the_folder_that_holds_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = Path("p/a.png"), Path("p/../p/b.png")
    assert file_names([a, b, tmp_path / "p/a.png"]) == {"a.png": tmp_path / "p/a.png", "b.png": b}
    assert file_names([a, Path("q/r/a.png")]).keys() == {"p/a.png", "q/r/a.png"}
    assert file_names([]) == {}


def test_what_is_no_photograph_is_none() -> None:
    others = {".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".eps", ".ps", ".wmf", ".grib", ".iim"}
    assert not image_suffixes() & others
    assert features.check("avif") <= (".avif" in image_suffixes())


def test_subfolders_are_walked_and_hidden_files_passed_over(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.tif", "._b.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert walk_images(tmp_path) == [tmp_path / "a/c.tif", tmp_path / "b.PNG"]
