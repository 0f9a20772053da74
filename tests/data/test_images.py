from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from b2inst.data import DataError, read_image
from b2inst.data.images import (
    file_names,
    find_image_files,
    image_suffixes,
    probe_image,
    walk_images,
)
from b2inst.models.segmenter import ImageLike, rgb_array

ORIENTATION = 0x0112
#: What a viewer must do, from the EXIF standard; 0 and 9 are no orientations.
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    0: lambda a: a,
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
    9: lambda a: a,
}
#: The modes that a format can hold.
MODES = {
    "PNG": "1 L LA P RGB RGBA I;16",
    "TIFF": "1 L LA P PA RGB RGBA RGBX CMYK YCbCr LAB I I;16 I;16B F",
    "TIFF tiff_lzw": "1 L RGB CMYK I;16 F",
    "TIFF jpeg": "L RGB",
    "JPEG": "L RGB CMYK YCbCr",
    "MPO": "L RGB CMYK",
    "WEBP": "L RGB RGBA",
    "AVIF": "L RGB RGBA",
    "JPEG2000": "L LA RGB RGBA CMYK I;16",
    "PPM": "1 L RGB I F",
    "BMP": "1 L P RGB",
    "GIF": "1 L P",
    "TGA": "1 L LA P RGB RGBA",
    "SGI": "L RGB RGBA",
}
#: The orientations that a format can hold.
ORIENTATIONS = {
    **dict.fromkeys(["PNG", "TIFF", "JPEG", "MPO", "WEBP", "AVIF"], range(10)),
    **dict.fromkeys(["TIFF tiff_lzw", "TIFF jpeg"], range(1, 9)),
}
BEST: dict[str, dict[str, Any]] = {
    "TIFF tiff_lzw": {"compression": "tiff_lzw"},
    "TIFF jpeg": {"compression": "jpeg", "quality": 100},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0},
    "MPO": {"quality": 100, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4", "speed": 10},
}
LOSS = {"TIFF jpeg": 4, "JPEG": 4, "MPO": 4, "AVIF": 4}  # levels


def picture(mode: str, height: int, width: int) -> Image.Image:
    """Smooth, and different in all of its corners."""
    rows, columns = np.mgrid[:height, :width] / [[[height]], [[width]]]
    grey = (rows + 2 * columns) / 3
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32))
    if mode == "I":
        return Image.fromarray((grey * 65535).astype(np.int32))
    if mode.startswith("I;16"):
        return Image.fromarray((grey * 65535).astype(">u2" if mode == "I;16B" else "<u2"))
    rgb = np.stack([grey, rows, 1 - columns], axis=2)
    image = Image.fromarray((rgb * 255).astype(np.uint8))
    return image.convert("RGBA").convert(mode) if mode == "PA" else image.convert(mode)


def eight_bits(image: Image.Image, kind: str) -> np.ndarray:
    """The rule of docs/data.md, for pictures whose pixels go from 0 to the greatest value."""
    pixels = np.asarray(image)
    if image.mode == "F":
        grey = np.rint(pixels.astype(np.float64) * 255)
    elif image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
        grey = pixels // 256
    elif image.mode == "I":
        grey = np.rint(np.interp(pixels, [pixels.min(), pixels.max()], [0, 255]))
    else:
        return np.asarray(image.convert("RGB"))
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("size", [(40, 24), (150, 320)])  # the second large enough for drafts
@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()]
)
def test_every_mode_and_orientation(
    kind: str, mode: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """Reader, probe and models are as one, and are what the file was made of."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = picture(mode, *size)
    stored = eight_bits(image, kind)
    for orientation in ORIENTATIONS.get(kind, [1]):
        path = tmp_path / f"{orientation}.image"
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options = {"exif": exif} if kind in ORIENTATIONS else {}
        image.save(path, kind.split()[0], **options, **BEST.get(kind, {}))
        expected = TURNED[orientation](stored)
        read = np.asarray(read_image(path))
        assert read.shape == expected.shape
        assert np.abs(read.astype(int) - expected).max() <= LOSS.get(kind, 0)
        assert probe_image(path) == expected.shape[:2]
        given: list[ImageLike] = [path, str(path), read_image(path)]
        with Image.open(path) as file:
            for one in [*given, file]:
                np.testing.assert_array_equal(rgb_array(one), read)


def test_one_grey_picture_in_four_formats(files: Path) -> None:
    names = ["eight_bit.png", "sixteen_bit.png", "sixteen_bit.pgm", "float_0_to_1.tif"]
    first, *others = (np.asarray(read_image(files / "sixteen_bit_images" / n)) for n in names)
    assert first.mean() == pytest.approx(103, abs=0.5)
    for other in others:
        np.testing.assert_array_equal(other, first)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("harm", [cut, lambda data: b"no image", lambda data: b""])
@pytest.mark.parametrize("read", [read_image, probe_image])
def test_broken_files_are_errors(kind: str, harm, read, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(harm(buffer.getvalue()))
    with pytest.raises(DataError, match="unreadable image") as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_image, probe_image])
def test_missing_and_too_large_files(read, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(DataError, match="no such image"):
        read(tmp_path / "x.png")
    Image.new("L", (20, 10)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with pytest.raises(DataError, match=r"x\.png: more than 198 pixels.* tile it$"):
        read(tmp_path / "x.png")


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
        ("data/two/same.png", "two/same.png"),
        ("TWO\\Same.PNG", "two/same.png"),
        ("three/same.png", None),
        ("empty.png", None),
        ("dangling.png", None),
        ("folder.png", None),
        ("gone.png", None),
        ("", None),
    ],
)
def test_names(name: str, expected: str | None, folder: Path) -> None:
    found = find_image_files(folder, [name])
    assert found == ({} if expected is None else {name: (expected, 5)})


def test_a_file_is_one_image(folder: Path) -> None:
    """Two names with one last part are not read from one file."""
    assert find_image_files(folder, ["x/a.png", "y/a.png"]) == {}
    assert list(find_image_files(folder, ["a.png", "y/a.png"])) == ["a.png"]


def test_both_ways_to_write_an_accent(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).write_bytes(b"1")
    assert find_image_files(tmp_path, [composed])[composed] == (decomposed, 1)


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
    for name in ("b.PNG", "a/c.tif", "._b.png", ".thumbnails/b.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert walk_images(tmp_path) == [tmp_path / "a/c.tif", tmp_path / "b.PNG"]


def test_linked_folders_are_walked_but_not_around_in_a_circle(tmp_path: Path) -> None:
    for name in ("in/a.png", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to("..")
    (tmp_path / "in/itself").symlink_to(".")
    assert walk_images(tmp_path / "in") == [tmp_path / "in/a.png", tmp_path / "in/linked/b.png"]


def test_folders_that_link_to_each_other_are_walked_once_on_each_way(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").touch()
        for other in set(names) - {name}:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    found = [path.relative_to(tmp_path).as_posix() for path in walk_images(tmp_path / "a")]
    assert found == ["a/a.png", "a/b/b.png", "a/b/c/c.png", "a/c/b/b.png", "a/c/c.png"]


def test_a_folder_that_links_to_itself_has_its_images_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "again").symlink_to(".")  # "ln -s", called twice
    assert find_image_files(tmp_path, ["s/a.png"]) == {"s/a.png": ("a.png", 1)}
