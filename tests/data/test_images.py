from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from b2inst.data import DataError, read_image
from b2inst.data.images import probe_image

GREY = np.random.default_rng(0).integers(0, 256, (12, 18), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    if mode == "I;16":
        image = Image.fromarray(GREY.astype(np.uint16) * 257)
    elif mode == "CMYK":
        image = image.convert("RGB").convert(mode)
    else:
        image = image.convert(mode)
    path = tmp_path / "x.tif"
    image.save(path)
    read = np.asarray(read_image(path))
    assert read.shape == (12, 18, 3)
    if mode != "1":
        np.testing.assert_array_equal(read, np.repeat(GREY[:, :, None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    turned = {  # what a viewer must do, from the EXIF standard
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }[orientation]
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.png", exif=exif)
    read = np.asarray(read_image(tmp_path / "x.png"))
    np.testing.assert_array_equal(read[:, :, 0], turned(GREY))
    assert probe_image(tmp_path / "x.png") == read.shape[:2]


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


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such image"):
        read_image(tmp_path / "x.png")
