from __future__ import annotations

import stat
import struct
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest

from b2inst.data import DataError
from b2inst.data.archives import extract, read_member, read_members

GOOD = {"val/1.jpg": b"one" * 100, "val/2.jpg": b"two" * 200}
RULES: dict[str, Any] = {"wanted": r"val/\d\.jpg", "known": r"val/|extra/.*", "limit": 1000}


def link(name: str) -> ZipInfo:
    info = ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def encrypted(archive: Path) -> None:
    """Set the flag in the local header and in the directory."""
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make(tmp_path / "a.zip", GOOD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "out").mkdir(parents=True)
    return tmp_path / "in" / "out"


def make(path: Path, members: dict[Any, bytes]) -> Path:
    with ZipFile(path, "a", ZIP_DEFLATED) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, content in members.items():
            file.writestr(name, content)
    return path


def nothing_is_written(folder: Path) -> bool:
    return [p for p in folder.parent.parent.rglob("*") if p.is_file()] == [
        folder.parent.parent / "a.zip"
    ]


def test_wanted_members_are_written_without_their_folders(archive: Path, folder: Path) -> None:
    make(archive, {"val/": b"", "extra/3.jpg": b"3", "extra/large": b"0" * 10_000})
    assert extract(archive, folder, **RULES) == ["1.jpg", "2.jpg"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "1.jpg": GOOD["val/1.jpg"],
        "2.jpg": GOOD["val/2.jpg"],
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.jpg", "'../evil.jpg' does not belong there"),
        ("val/../../evil.jpg", "does not belong"),
        ("/abs/1.jpg", "'/abs/1.jpg' does not belong"),
        ("C:\\1.jpg", "does not belong"),
        ("val\\3.jpg", "does not belong"),
        ("val/3.jpg\n", "does not belong"),
        ("val/3.jpg.exe", "does not belong"),
        ("val/deep/3.jpg", "does not belong"),
        ("val/1.jpg", "'val/1.jpg' occurs twice"),
        (link("val/3.jpg"), "'val/3.jpg' is a link"),
        (link("extra/3.jpg"), "'extra/3.jpg' is a link"),
    ],
)
def test_other_members_are_refused(name: Any, words: str, archive: Path, folder: Path) -> None:
    make(archive, {name: b"/etc/passwd"})
    with pytest.raises(DataError) as error:
        extract(archive, folder, **RULES)
    assert words in str(error.value)
    assert str(archive) in str(error.value)
    assert nothing_is_written(folder)


def test_a_member_behind_a_null_character(archive: Path, folder: Path) -> None:
    """`zipfile` shows such a name only up to there."""
    make(archive, {"val/3.jpgXevil": b"3"})
    archive.write_bytes(archive.read_bytes().replace(b"val/3.jpgX", b"val/3.jpg\0"))
    with pytest.raises(DataError, match="does not belong"):
        extract(archive, folder, **RULES)
    assert nothing_is_written(folder)


def test_huge_members_are_refused(archive: Path, folder: Path) -> None:
    make(archive, {"val/3.jpg": b"0" * 1_000_000})
    assert archive.stat().st_size < 2_000
    with pytest.raises(DataError, match=r"1,000,900 bytes, not at most 1,000 .*'val/3\.jpg'"):
        extract(archive, folder, **RULES)
    assert nothing_is_written(folder)


def test_a_member_is_read_no_further_than_it_declares(archive: Path, folder: Path) -> None:
    make(archive, {"val/3.jpg": b"0" * 1_000_000})
    declared = struct.pack("<L", 1_000_000)
    data = archive.read_bytes()
    assert data.count(declared) == 2
    archive.write_bytes(data.replace(declared, struct.pack("<L", 50)))
    with pytest.raises(DataError, match=r"'val/3\.jpg' is damaged"):
        extract(archive, folder, **RULES)
    assert (folder / "3.jpg").stat().st_size <= 50


def test_damage_is_found(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "a.zip"
    with ZipFile(archive, "w") as file:  # stored as it is: nothing but the CRC tells
        file.writestr("val/1.jpg", b"one" * 100)
    archive.write_bytes(archive.read_bytes().replace(b"oneoneone", b"oneOneone", 1))
    with pytest.raises(DataError, match=r"'val/1\.jpg' is damaged \(Bad CRC"):
        extract(archive, folder, **RULES)
    with pytest.raises(DataError, match="damaged"):
        read_member(archive, path="val/1.jpg", known="-", limit=1000)


def test_damaged_compression_is_found(archive: Path, folder: Path) -> None:
    data = bytearray(archive.read_bytes())
    start = data.index(b"val/1.jpg") + len("val/1.jpg")
    data[start : start + 4] = b"\xff" * 4
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"'val/1\.jpg' is damaged"):
        extract(archive, folder, **RULES)


def test_encrypted_members_are_refused(archive: Path, folder: Path) -> None:
    encrypted(archive)
    with pytest.raises(DataError, match=r"'val/1\.jpg' is encrypted"):
        extract(archive, folder, **RULES)


@pytest.mark.parametrize("harm", [lambda data: data[:-30], lambda data: b"no zip"])
def test_what_is_no_archive(harm: Any, archive: Path, folder: Path) -> None:
    archive.write_bytes(harm(archive.read_bytes()))
    with pytest.raises(DataError, match="not a zip archive"):
        extract(archive, folder, **RULES)


def test_one_member_is_read(archive: Path) -> None:
    rules = {"known": r"val/\d\.jpg", "limit": 600}
    assert read_member(archive, path="val/2.jpg", **rules) == GOOD["val/2.jpg"]
    with pytest.raises(DataError, match=r"has no 'val/9\.jpg'"):
        read_member(archive, path="val/9.jpg", **rules)
    with pytest.raises(DataError, match=r"600 bytes, not at most 599"):
        read_member(archive, path="val/2.jpg", **(rules | {"limit": 599}))


def test_members_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    archive = make(
        tmp_path / "a.zip", {"val/": b"", "extra/0": b"0"} | dict(reversed(GOOD.items()))
    )
    found = [(member.filename, content) for member, content in read_members(archive, **RULES)]
    assert found == [*GOOD.items()]


def test_other_compression_is_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_BZIP2) as file:
        file.writestr("val/1.jpg", b"1")
    with pytest.raises(DataError, match=r"'val/1\.jpg' is compressed by a method other"):
        list(read_members(tmp_path / "a.zip", **RULES))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.zip: cannot be read \(No such file"):
        list(read_members(tmp_path / "none.zip", **RULES))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_members(tmp_path, **RULES))


def test_any_byte_may_be_damaged(archive: Path) -> None:
    """Damage either does no harm or is told; with this seed it breaks each part of the format."""
    good, random = archive.read_bytes(), np.random.default_rng(0)
    told = 0
    for _ in range(500):
        data = bytearray(good)
        for at in random.integers(len(data), size=3):
            data[at] = random.integers(256)
        archive.write_bytes(data)
        try:
            found = {m.filename: content for m, content in read_members(archive, **RULES)}
        except DataError:
            told += 1
        else:
            assert found.items() <= GOOD.items()
    assert 250 < told < 500
