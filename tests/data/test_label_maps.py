from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data import DataError, check_coco, convert_label_maps
from b2inst.data.label_maps import read_label_map

#: 20×30: object 1 touches object 2, object 300 has two pieces.
LABELS = np.zeros((20, 30), np.uint16)
LABELS[2:8, 3:9] = 1
LABELS[8:12, 3:9] = 2
LABELS[0:3, 20:25] = LABELS[15:20, 28:30] = 300
AREAS = [36, 24, 25]
EMPTY = np.zeros_like(LABELS)
ONE = (LABELS == 1).astype(np.uint8)
PIECES = (LABELS > 0).astype(np.uint8)  # three regions


def write(root: Path, files: dict[str, np.ndarray | None]) -> Path:
    """Write masks; an image, of 16-bit noise, for None."""
    for name, pixels in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            pixels = np.random.default_rng(0).integers(0, 65536, LABELS.shape, dtype=np.uint16)
        Image.fromarray(pixels).save(root / name)
    return root


def converted(source: Path, split: str = "train", **options: Any) -> dict[str, Any]:
    out = source.parent / "out"
    convert_label_maps(source, out, **options)
    return json.loads((out / f"annotations/instances_{split}.json").read_text())


def areas(content: dict[str, Any]) -> list[int]:
    return [annotation["area"] for annotation in content["annotations"]]


def test_objects_boxes_and_class(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"images/a.tif": None, "masks/a.png": LABELS})
    content = converted(root, name="nucleus")
    assert content["categories"] == [{"id": 1, "name": "nucleus"}]
    assert areas(content) == AREAS
    assert [a["bbox"] for a in content["annotations"]] == [
        [3, 2, 6, 6],
        [3, 8, 6, 4],
        [20, 0, 10, 20],
    ]
    for annotation, number in zip(content["annotations"], (1, 2, 300), strict=True):
        found = coco_mask.decode(annotation["segmentation"])
        np.testing.assert_array_equal(found, number == LABELS)
    assert (tmp_path / "out/train/a.tif").samefile(root / "images/a.tif")
    report = check_coco(tmp_path / "out")
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("image", "mask", "split"),
    [
        ("images/a.png", "masks/a.tif", "train"),
        ("images/a.jpg", "labels/a.png", "train"),
        ("images/a.png", "masks/a_mask.png", "train"),
        ("Images/a.png", "Masks/a.png", "train"),
        ("images/x_labels.png", "masks/x_labels.png", "train"),
        ("train/images/a.tif", "train/masks/a.tif", "train"),  # StarDist
        ("test/images/a.tif", "test/masks/a.tif", "test"),
        ("images/val/a.tif", "masks/val/a.tif", "val"),
        ("valid/images/plate 1/a.tif", "valid/masks/plate 1/a.tif", "val"),
        ("a.tif", "a_masks.tif", "train"),  # Cellpose
        ("a.jpg", "a_cp_masks.png", "train"),
        ("train/000_img.png", "train/000_masks.png", "train"),
        ("a_img.png", "a_img_cp_masks.png", "train"),
        ("a.png", "masks/a_cp_masks.png", "train"),
        ("a.png", "a_labels.png", "train"),
    ],
)
def test_layouts(tmp_path: Path, image: str, mask: str, split: str) -> None:
    root = write(tmp_path / "set", {mask: LABELS})
    (root / image).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (30, 20)).save(root / image)
    content = converted(root, split)
    assert areas(content) == AREAS
    assert [i["file_name"] for i in content["images"]] == [Path(image).name]


def test_splits_are_kept(tmp_path: Path) -> None:
    files = {f"{s}/{kind}/a.tif": None for s in ("test", "train") for kind in ("images", "masks")}
    root = write(tmp_path / "set", files)
    write(root, {"train/masks/a.tif": LABELS, "test/masks/a.tif": EMPTY})
    conversion = convert_label_maps(root, tmp_path / "out")
    assert list(conversion.splits.items()) == [("train", (1, 0, 3)), ("test", (1, 1, 0))]


def test_other_files_of_cellpose_are_passed_over(tmp_path: Path) -> None:
    names = ["a_outlines_cp_masks", "a_flows_cp_masks", "a_dP_cp_masks", "a_cellprob_cp_masks"]
    names += ["a_cp_outlines", "a_flows", "a_flows_0", "a_cp_output_cp_masks"]
    root = write(tmp_path / "set", {f"{name}.tif": EMPTY for name in names})
    write(root, {"a.tif": None, "a_cp_masks.tif": LABELS})
    (root / "a_seg.npy").touch()
    assert areas(converted(root)) == AREAS


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("png", "u1"), ("png", "u2")] + [("tif", kind) for kind in ("u1", "u2", "i2", "i4", "f4")],
)
def test_kinds_of_numbers(tmp_path: Path, suffix: str, kind: str) -> None:
    """Written by OpenCV, read by Pillow."""
    labels = np.minimum(LABELS, 255).astype(kind)
    if kind != "u1":
        labels = LABELS.astype(kind)
    cv2.imwrite(str(tmp_path / f"mask.{suffix}"), labels)
    np.testing.assert_array_equal(read_label_map(tmp_path / f"mask.{suffix}"), labels)


def test_indices_of_a_palette_are_the_numbers(tmp_path: Path) -> None:
    labels = np.minimum(LABELS, 9).astype(np.uint8)
    image = Image.new("P", labels.shape[::-1])
    image.putdata(labels.ravel().tolist())
    image.putpalette([255 - k for k in range(256) for _ in range(3)])
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "mask.png"), labels)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("m.png", np.repeat(ONE[:, :, None], 3, axis=2), r"has colours \(PNG RGB\)"),
        ("m.png", np.repeat(ONE[:, :, None], 2, axis=2), r"has colours \(PNG LA\)"),
        ("m.jpg", ONE, r"is a JPEG, which changes the numbers"),
        ("m.tif", LABELS.astype(np.int32) - 1, r"has negative numbers"),
        ("m.tif", LABELS.astype(np.float32) / 2, r"has negative numbers or fractions"),
    ],
)
def test_what_is_no_label_map(tmp_path: Path, name: str, pixels: np.ndarray, message: str) -> None:
    path = write(tmp_path, {name: pixels}) / name
    with pytest.raises(DataError, match=message) as error:
        read_label_map(path)
    assert str(path) in str(error.value)


def test_stacks_and_broken_files(tmp_path: Path) -> None:
    image, path = Image.fromarray(LABELS), tmp_path / "m.tif"
    image.save(path, save_all=True, append_images=[image, image])
    with pytest.raises(DataError, match="has 3 pages"):
        read_label_map(path)
    image.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"m.tif: unreadable mask"):
        read_label_map(path)
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"m.tif: unreadable mask"):
        read_label_map(path)


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks(tmp_path: Path, value: int) -> None:
    masks = {"masks/a.png": PIECES * value, "masks/b.png": ONE * value, "masks/c.png": EMPTY}
    images = {f"images/{name}.png": None for name in "abc"}
    root = write(tmp_path / "set", masks | images)
    with pytest.raises(DataError, match=r"the masks are binary .*--components"):
        converted(root)
    content = converted(root, components=True)
    # Objects 1 and 2 touch and are one region; sizes by hand.
    assert [a["image_id"] for a in content["annotations"]] == [1, 1, 1, 2]
    assert sorted(areas(content)[:3]) == [10, 15, 60]
    assert areas(content)[3] == 36


def test_regions_join_over_corners(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[[1, 2, 5], [1, 2, 5]] = 255
    root = write(tmp_path / "set", {"a.png": None, "a_mask.png": mask})
    assert areas(converted(root, components=True)) == [2, 1]


def test_one_bit_masks(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a.png": None, "a_mask.png": PIECES.astype(bool)})
    assert len(areas(converted(root, components=True))) == 3


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_one_bit_of_a_tiff_is_a_number_and_no_colour(tmp_path: Path, white_is_zero: bool) -> None:
    """tifffile writes boolean masks as images whose 0 is white."""
    rows = bytes([0b00000000, 0b01100000, 0b01100000])
    tags = {256: 8, 257: 3, 258: 1, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: 3}
    entries = b"".join(
        struct.pack("<HHII", *(tag, 4, 1, n)) for tag, n in (tags | {279: 3}).items()
    )
    head = struct.pack("<2sHI", b"II", 42, 12) + rows + b"\0" + struct.pack("<H", 9)
    (tmp_path / "a.tif").write_bytes(head + entries + struct.pack("<I", 0))
    labels = read_label_map(tmp_path / "a.tif")
    assert np.argwhere(labels).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_one_object_an_image_is_not_binary(tmp_path: Path) -> None:
    files = {"a.png": None, "a_mask.png": ONE, "b.png": None, "b_mask.png": ONE * 255}
    assert areas(converted(write(tmp_path / "set", files))) == [36, 36]


def test_a_binary_mask_among_label_maps_is_noted(tmp_path: Path) -> None:
    files = {"a.png": None, "a_mask.png": PIECES, "b.png": None, "b_mask.png": LABELS}
    files |= {"c.png": None, "c_mask.png": np.where(LABELS == 300, 7, 0).astype(np.uint8)}
    done = convert_label_maps(write(tmp_path / "set", files), tmp_path / "out")
    (note,) = done.notes
    assert note.endswith("a_mask.png: one object of 3 regions; is it binary?")


def test_a_label_map_of_one_object_in_pieces(tmp_path: Path) -> None:
    files = {"a.png": None, "a_mask.png": PIECES, "b.png": None, "b_mask.png": LABELS}
    root = write(tmp_path / "set", files)
    assert areas(converted(root)) == [sum(AREAS), *AREAS]
    (tmp_path / "out").rename(tmp_path / "first")
    with pytest.raises(DataError, match=r"masks have several numbers; leave out --comp"):
        converted(root, components=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"images/b.png": None}, r"b.png: .*but has no mask; give a mask of zeros"),
        ({"masks/b.png": LABELS}, r"b.png: is a mask without an image"),
        ({"masks/a.tif": LABELS}, r"a.png: must have one mask .*a.png, .*a.tif"),
        ({"images/a.tif": None}, r"must have one mask of its name, but has .*images/a"),
        ({"images/b.png": None, "masks/b.png": LABELS.T}, r"b.png: has 20×30 pixels but its image"),
        ({"images/b.png": None, "masks/b.tif": LABELS.astype(np.int32) - 1}, r"negative numbers"),
    ],
)
def test_pairs_that_are_none(
    tmp_path: Path, files: dict[str, np.ndarray | None], message: str
) -> None:
    pair = {"images/a.png": None, "masks/a.png": LABELS}
    sound = {"images/s.png": None, "masks/s.png": LABELS}
    root = write(tmp_path / "set", {**pair, **sound, **files})
    with pytest.raises(DataError, match=message) as error:
        converted(root)
    assert str(error.value).endswith("; correct it")
    conversion = convert_label_maps(root, tmp_path / "out", skip_bad=True)
    ambiguous = {"masks/a.tif", "images/a.tif"} & files.keys()
    assert conversion.splits["train"][0] == (1 if ambiguous else 2)
    assert len(conversion.skipped) == 1


def test_nothing_to_convert(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"images/a.png": None})
    with pytest.raises(DataError, match="no mask of an image found"):
        converted(root)
    write(root, {"masks/a.png": EMPTY})
    with pytest.raises(DataError, match="no image has an object"):
        converted(root)
