from __future__ import annotations

import io
import runpy
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from b2inst.ops import images
from b2inst.ops.images import open_image, orientation, resized_size, upright_rgb

GREY = np.random.default_rng(0).integers(0, 256, (12, 18), dtype=np.uint8)
ORIENTATION = 0x0112


def grey(image: Image.Image) -> np.ndarray:
    rgb = np.asarray(upright_rgb(image))
    assert rgb.dtype == np.uint8
    assert (rgb == rgb[:, :, :1]).all()
    return rgb[:, :, 0]


def reopened(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer)


def tiff(values: bytes, *, bits: int, kind: int = 1, white_is_zero: bool = False) -> Image.Image:
    """A 1×4 grey TIFF as its specification has it, without Pillow; kind 1 unsigned, 2 signed."""
    tags = {256: 4, 257: 1, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1}
    tags |= {278: 1, 279: len(values), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    offset = 8 + len(values) + len(values) % 2
    head = struct.pack("<2sHI", b"II", 42, offset) + values.ljust(offset - 8, b"\0")
    return Image.open(
        io.BytesIO(head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))
    )


@given(arrays(np.uint16, (3, 4)))
def test_16_bits_are_scaled_by_256(values: np.ndarray) -> None:
    for image in (
        Image.fromarray(values),
        Image.fromarray(values.astype(">u2")),
        reopened(Image.fromarray(values), "PNG"),
        reopened(Image.fromarray(values), "TIFF"),
        reopened(Image.fromarray(values.astype(">u2")), "TIFF"),
        reopened(Image.fromarray(values), "JPEG2000"),
        reopened(Image.fromarray(values), "PPM"),  # Pillow's mode I
    ):
        np.testing.assert_array_equal(grey(image), values // 256)


def test_16_bits_of_a_smaller_greatest_value() -> None:
    """A PGM file states its white: 1000 here."""
    values = np.array([[0, 250, 500, 1000]])
    image = Image.open(io.BytesIO(b"P5 4 1 1000\n" + values.astype(">u2").tobytes()))
    assert grey(image).tolist() == [[0, 64, 128, 255]]


def test_12_bits_are_scaled_by_16() -> None:
    packed = bytes.fromhex("000 00f 7ff fff".replace(" ", ""))
    assert grey(tiff(packed, bits=12)).tolist() == [[0, 0, 0x7F, 0xFF]]


@given(arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)))
def test_floats_from_0_to_1_are_scaled_by_255(values: np.ndarray) -> None:
    for image in (Image.fromarray(values), reopened(Image.fromarray(values), "TIFF")):
        assert np.abs(grey(image) - values.astype(np.float64) * 255).max() <= 0.5


@given(
    arrays(np.int32, (3, 4), elements=st.integers(-(2**31), 2**31 - 1))
    | arrays(np.float32, (3, 4), elements=st.floats(-(2.0**99), 2.0**99, width=32))
)
def test_other_numbers_are_stretched(values: np.ndarray) -> None:
    low, high = float(values.min()), float(values.max())
    if values.dtype == np.float32 and low >= 0 and high <= 1:
        return
    for image in (Image.fromarray(values), reopened(Image.fromarray(values), "TIFF")):
        if low == high:
            assert (grey(image) == 128).all()
        else:
            expected = np.interp(values.astype(np.float64), [low, high], [0, 255])
            assert np.abs(grey(image) - expected).max() <= 0.5 + 1e-6


def test_numbers_that_are_not_finite() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, -10, 0, 10]], np.float32)
    assert grey(Image.fromarray(values)).tolist() == [[0, 0, 255, 0, 128, 255]]
    assert grey(Image.fromarray(values[:, :3])).tolist() == [[0, 0, 255]]
    assert grey(Image.fromarray(values[:, :1])).tolist() == [[0]]


def test_unsigned_and_signed_integers_of_tiff() -> None:
    """Pillow gives both as signed 32-bit integers."""
    unsigned = np.array([0, 2**30, 2**31, 2**32 - 1], "<u4").tobytes()
    assert grey(tiff(unsigned, bits=32)).tolist() == [[0, 64, 128, 255]]
    assert grey(tiff(unsigned, bits=32, kind=2)).tolist() == [[170, 255, 0, 170]]
    signed = np.array([-200, -100, 20, 200], "<i2").tobytes()
    assert grey(tiff(signed, bits=16, kind=2)).tolist() == [[0, 64, 140, 255]]


def test_tiff_whose_zero_is_white() -> None:
    """Pillow turns 8 bits around, but not 16."""
    values = np.array([0, 51, 102, 255])
    for bits in (8, 16):
        data = (values * (257 if bits == 16 else 1)).astype(f"<u{bits // 8}").tobytes()
        assert grey(tiff(data, bits=bits)).tolist() == [values.tolist()]
        assert grey(tiff(data, bits=bits, white_is_zero=True)).tolist() == [(255 - values).tolist()]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"])
def test_grey_stays_grey_in_modes_of_8_bits(mode: str) -> None:
    levels = np.where(GREY > 127, 255, 0).astype(np.uint8) if mode == "1" else GREY
    image = Image.fromarray(levels)
    if mode in ("RGBa", "PA"):  # only made by way of another mode
        image = image.convert("RGBA")
    np.testing.assert_array_equal(grey(image.convert(mode)), levels)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (30, 160, 90), (128, 128, 128)])
def test_colour_spaces(mode: str, colour: tuple[int, int, int]) -> None:
    image = Image.new("RGB", (2, 2), colour).convert(mode)
    off = np.asarray(upright_rgb(image)).astype(int) - colour
    assert np.abs(off).max() <= (25 if mode == "LAB" else 2)  # its 8 bits cover far more colours


@pytest.mark.parametrize("transparency", [0, bytes(range(256)), (10, 20, 30)])
def test_transparency_is_dropped_in_silence(transparency: Any) -> None:
    image = Image.fromarray(GREY).convert("P")
    image.info["transparency"] = transparency
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(grey(image), GREY)
    assert image.info["transparency"] == transparency


def test_the_image_given_is_not_changed_and_the_result_not_turned_again() -> None:
    image = Image.fromarray(GREY)
    image.getexif()[ORIENTATION] = 6
    once = upright_rgb(image)
    np.testing.assert_array_equal(np.asarray(once)[:, :, 0], np.rot90(GREY, -1))
    np.testing.assert_array_equal(np.asarray(upright_rgb(once)), np.asarray(once))
    np.testing.assert_array_equal(np.asarray(image), GREY)
    assert orientation(image) == 6
    assert not once.info
    same = Image.fromarray(np.zeros((2, 2, 3), np.uint8))
    upright_rgb(same).putpixel((0, 0), (1, 1, 1))
    assert same.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP"])
def test_the_first_of_several_frames(kind: str) -> None:
    first, second = Image.fromarray(GREY).convert("RGB"), Image.new("RGB", (18, 12), "red")
    options = {"lossless": True} if kind == "WEBP" else {}
    film = reopened(first, kind, save_all=True, append_images=[second], **options)
    assert film.n_frames == 2
    np.testing.assert_array_equal(grey(film), GREY)


EXIF = {
    "not EXIF": b"garbage",
    "empty": b"",
    "nothing follows": b"Exif\0\0MM\0*\0\0\0\x08",
    "an offset beyond": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "more entries than there are": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\0\0\0\x01\0",
    "text": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x026\0\0\0\0\0\0\0",
    "a fraction": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\0\x1a\0\0\0\0"
    b"\0\0\0\x00\0\0\0\x00",
    "zero": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x00\0\0\0\0\0\0",
    "nine": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", EXIF.values(), ids=EXIF.keys())
def test_damaged_or_senseless_exif_is_none(kind: str, exif: bytes) -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY).convert("RGB").save(buffer, kind, exif=exif)
    buffer.seek(0)
    plain = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    image = Image.open(buffer)
    assert orientation(image) == 1
    np.testing.assert_array_equal(np.asarray(upright_rgb(image)), plain)


def test_damaged_exif_in_the_text_of_a_png() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n    4\nno hexadecimal digits")
    np.testing.assert_array_equal(grey(reopened(Image.fromarray(GREY), "PNG", pnginfo=text)), GREY)


def test_exif_behind_the_pixels_of_a_png() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG")
    data = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    content = buffer.getvalue()
    image = Image.open(io.BytesIO(content[:-12] + chunk + content[-12:]))  # before IEND
    np.testing.assert_array_equal(grey(image), np.rot90(GREY))


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(FileNotFoundError, match=r"x\.png"), open_image(path):
        pass
    Image.fromarray(GREY).save(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UnidentifiedImageError, match=r"x\.png: unreadable image \(.+\); replace"):  # noqa: SIM117
        with open_image(path) as image:
            image.load()


def test_too_large_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(GREY).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size // 2 - 1)
    with (
        pytest.raises(UnidentifiedImageError, match=r"x\.png: more than 214 pixels.*reduce"),
        open_image(path),
    ):
        pass
    # Pillow warns from half of what it refuses on.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(path)
        module = runpy.run_path(str(images.__file__))  # as imported, with its filter
        with module["open_image"](path) as image:
            np.testing.assert_array_equal(grey(image), GREY)


def of_detectron2(height: int, width: int, shorter: int, longer_max: int) -> tuple[int, int]:
    """The rule as published: one side exact, then both scaled again when the longer is too long."""
    scale = shorter / min(height, width)
    high, wide = (shorter, scale * width) if height < width else (scale * height, shorter)
    if max(high, wide) > longer_max:
        again = longer_max / max(high, wide)
        high, wide = high * again, wide * again
    return int(high + 0.5), int(wide + 0.5)


@given(
    st.integers(20, 3000),
    st.integers(20, 3000),
    st.sampled_from([(800, 1333), (640, 1333), (96, 160), (320, 533)]),
)
def test_size_rule_is_that_of_the_published_baselines(
    height: int, width: int, limits: tuple[int, int]
) -> None:
    assert resized_size(height, width, *limits) == of_detectron2(height, width, *limits)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (800, 1067)),
        ((640, 428), (1196, 800)),
        ((100, 1000), (133, 1333)),
        # Halves that rounding in another order turns the other way.
        ((27, 86), (418, 1333)),
        ((48, 992), (64, 1333)),
        ((90, 620), (193, 1333)),
    ],
)
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, 800, 1333) == expected


def test_a_thread_of_an_image_keeps_a_pixel() -> None:
    assert resized_size(4000, 1, 800, 1333) == (1333, 1)
