from __future__ import annotations

import errno
import os
import re
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from b2inst.data import DataError, check_coco, fetch_coco
from b2inst.data.coco_fetch import SITE, SPLITS
from b2inst.data.download import address


def fetch(root: Path, site: Any, *splits: str, **options: Any) -> list[Path]:
    return fetch_coco(
        root,
        splits=splits or ("train", "val"),
        mirror=site.web.address,
        **options,
    )


def files(root: Path) -> dict[str, bytes]:
    """All files by their path, but for the lock."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def expected(site: Any, *splits: str) -> dict[str, bytes]:
    """What COCO's own archives hold of these splits."""
    found = {}
    for split in splits:
        folder = f"{split}2017"
        found |= {f"{folder}/{name}": body for name, body in site.images[folder].items()}
        name = "image_info_test-dev2017" if split == "test" else f"instances_{folder}"
        found[f"annotations/{name}.json"] = site.annotations[f"annotations/{name}.json"]
    return found


def paths(site: Any) -> list[str]:
    return [path for path, _ in site.web.requests]


def test_splits_come_whole_and_nothing_else(tmp_path: Path, site: Any) -> None:
    found = fetch(tmp_path, site)
    assert [path.name for path in found] == ["instances_val2017.json", "instances_train2017.json"]
    assert files(tmp_path) == expected(site, "train", "val")
    assert paths(site) == [
        "/zips/val2017.zip",
        "/annotations/annotations_trainval2017.zip",
        "/zips/train2017.zip",
    ]
    assert check_coco(tmp_path).ok


def test_what_is_there_is_not_fetched_again(tmp_path: Path, site: Any) -> None:
    fetch(tmp_path, site, "val")
    site.web.reset()
    fetch(tmp_path, site, "val")
    assert paths(site) == []
    fetch(tmp_path, site, "val", "test")
    assert paths(site) == ["/zips/test2017.zip", "/annotations/image_info_test2017.zip"]
    assert files(tmp_path) == expected(site, "val", "test")


def test_archives_are_kept_when_asked_for_and_used(tmp_path: Path, site: Any) -> None:
    fetch(tmp_path, site, "val", keep_zips=True)
    zips = {path.name for path in tmp_path.glob("*.zip")}
    assert zips == {"annotations_trainval2017.zip", "val2017.zip"}
    site.web.reset()
    shutil.rmtree(tmp_path / "val2017")
    fetch(tmp_path, site, "train", "val")
    assert paths(site) == ["/zips/train2017.zip"]
    assert files(tmp_path) == expected(site, "train", "val")


def test_interrupted_in_an_archive_it_goes_on_there(tmp_path: Path, site: Any) -> None:
    partial = tmp_path / "val2017.zip.partial"
    site.web.acts.append({"interrupt": partial.exists})
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, site, "val")
    assert not (tmp_path / "val2017").exists()
    assert not (tmp_path / "annotations").exists()
    have = partial.stat().st_size
    site.web.reset()
    fetch(tmp_path, site, "val")
    assert site.web.requests[0] == ("/zips/val2017.zip", f"bytes={have}-" if have else None)
    assert files(tmp_path) == expected(site, "val")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_split_is_whole_or_absent(
    stop: BaseException, tmp_path: Path, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted = []
    extract = zipfile.ZipFile.extract

    def extract_or_stop(self: Any, name: str, folder: Path) -> str:
        extracted.append(name)
        if len(extracted) == 3:
            raise stop
        return extract(self, name, folder)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", extract_or_stop)
        with pytest.raises((KeyboardInterrupt, DataError)) as error:
            fetch(tmp_path, site, "val")
    if isinstance(stop, OSError):
        assert "No space left" in str(error.value)
        assert "make room" in str(error.value)
    assert set(files(tmp_path)) == {"val2017.zip"}
    site.web.reset()
    fetch(tmp_path, site, "val")
    assert paths(site) == ["/annotations/annotations_trainval2017.zip"]
    assert files(tmp_path) == expected(site, "val")


def test_what_a_killed_call_left_is_cleared(tmp_path: Path, site: Any) -> None:
    (tmp_path / ".partial" / "val2017").mkdir(parents=True)
    (tmp_path / ".partial" / "val2017" / "000000000001.jpg").write_bytes(b"half")
    fetch(tmp_path, site, "val")
    assert files(tmp_path) == expected(site, "val")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("val2017/mine.png", "is not COCO's, which has 6 images"),
        ("annotations/instances_val2017.json", "is not COCO's, which has"),
        ("val2017", "is not COCO's, which has 6 images"),
    ],
)
def test_other_data_are_never_overwritten(path: str, words: str, tmp_path: Path, site: Any) -> None:
    mine = tmp_path / path
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=words) as error:
        fetch(tmp_path, site, "val")
    assert path.split("/")[0] in str(error.value)
    assert "move it away" in str(error.value)
    assert mine.read_bytes() == b"mine"


def test_a_link_to_elsewhere_is_not_replaced(tmp_path: Path, site: Any) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "val2017").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is not COCO's"):
        fetch(tmp_path, site, "val")
    for name, body in site.images["val2017"].items():  # but one to all images is as good as they
        (tmp_path / "elsewhere" / name).write_bytes(body)
    fetch(tmp_path, site, "val")
    assert paths(site) == ["/annotations/annotations_trainval2017.zip"]


def test_disk_space_is_looked_at_before_anything_is_fetched(
    tmp_path: Path, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gigabyte = 10**9
    for name, zipped in {"train": 19, "val": 1}.items():
        images, labels = site.splits[name]
        site.splits[name] = (
            images._replace(size=zipped * gigabyte),
            labels._replace(size=2 * gigabyte),
        )
    usage = namedtuple("usage", "total used free")
    needed = (2 + 4) + 2.05 * (1 + 19)
    for free, words in {
        needed * gigabyte - 1: f"{needed:.1f} GB of disk space needed",
        needed * gigabyte: "the server has",  # there was space, so it went on to the server
    }.items():
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(0, 0, free))
        with pytest.raises(DataError, match=words):
            fetch(tmp_path, site)
        assert (paths(site) == []) == (free < needed * gigabyte)
        site.web.reset()
    with (tmp_path / "train2017.zip.partial").open("wb") as file:
        file.truncate(gigabyte)  # what has come is not needed again
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, (needed - 1) * gigabyte))
    with pytest.raises(DataError, match="the server has"):
        fetch(tmp_path, site)


def test_another_file_in_place_of_an_archive(tmp_path: Path, site: Any) -> None:
    """As a login page of a network that answers every request."""
    site.web.files["/zips/val2017.zip"] = b"<html>please log in</html>"
    with pytest.raises(DataError, match=r"zips/val2017\.zip: the server has 26 bytes there"):
        fetch(tmp_path, site, "val")


def test_one_process_at_a_time(tmp_path: Path, site: Any) -> None:
    fcntl = pytest.importorskip("fcntl")
    tmp_path.joinpath(".lock").touch()
    with tmp_path.joinpath(".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            fetch(tmp_path, site, "val")
    fetch(tmp_path, site, "val")


def test_where_nothing_can_be_written(tmp_path: Path, site: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/coco: cannot be written \(Not a directory\)"):
        fetch(tmp_path / "file" / "coco", site, "val")


def test_splits_and_mirrors_that_are_none(tmp_path: Path, site: Any) -> None:
    with pytest.raises(DataError, match="no split 'vla' of COCO; there are val, test, train"):
        fetch(tmp_path, site, "vla")
    for text in ("ftp://a.b", "file:///etc", "a.b/coco", "http://"):
        with pytest.raises(DataError, match="begins with http"):
            address(text)
    assert address("https://a.b/coco/") == "https://a.b/coco"
    assert os.listdir(tmp_path) == []


# --- what is known of COCO 2017 -----------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_addresses_and_layout(split: str) -> None:
    assert SITE == "http://images.cocodataset.org"
    images, labels = SPLITS[split]
    assert (images.target, images.archive) == (f"{split}2017", f"zips/{split}2017.zip")
    assert re.fullmatch(rf"annotations/\w+_({split}2017|test-dev2017)\.json", labels.target)
    for part in (images, labels):
        assert re.fullmatch("[0-9a-f]{32}", part.md5)
