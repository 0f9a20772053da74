"""Every kind of bad input is one clear line before training, or left out on request."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, DataError, check_coco, coco_reader

NAN, INF = float("nan"), float("inf")
Break = Callable[[dict[str, Any]], Any]


def annotation(**fields: Any) -> Break:
    return lambda content: content["annotations"][0].update(fields)


def image(**fields: Any) -> Break:
    return lambda content: content["images"][0].update(fields)


def rle(counts: Any, size: tuple[int, int] = (20, 30)) -> Break:
    return annotation(segmentation={"size": list(size), "counts": counts})


# name: (how the file is broken, words of the message, images left, annotations left)
BROKEN: dict[str, tuple[Break, str, int, int]] = {
    "missing image": (image(file_name="gone.png"), "image 7 (gone.png) is missing", 2, 1),
    "image without a name": (image(file_name=None), "image 7 has no file_name", 2, 1),
    "image without height": (image(height=None), "has height None", 2, 1),
    "image of negative width": (image(width=-3), "has width -3", 2, 1),
    "image id a string": (
        image(id="7"),
        "image '7' has id '7'; id must be a valid integer",
        2,
        1,
    ),
    "duplicate image id": (image(id=3), "image id 3 occurs more than once", 2, 1),
    "duplicate annotation id": (annotation(id=2), "annotation id 2 occurs more than once", 3, 2),
    "duplicate category id": (
        lambda content: content["categories"].append({"id": 2, "name": "cat"}),
        "category id 2 occurs more than once",
        3,
        3,
    ),
    "category without a name": (
        lambda content: content["categories"][2].pop("name"),
        "category 90 has no name",
        3,
        2,
    ),
    "unknown image": (annotation(image_id=4), "unknown image, id 4", 3, 2),
    "unknown category": (annotation(category_id=1), "unknown category, id 1", 3, 2),
    "iscrowd 2": (
        annotation(iscrowd=2),
        "iscrowd 2; iscrowd must be less than or equal to 1",
        3,
        2,
    ),
    "area NaN": (annotation(area=NAN), "area nan", 3, 2),
    "box with NaN": (
        annotation(bbox=[NAN, 0, 3, 3]),
        "bbox [nan, 0, 3, 3]; bbox.0 must be a finite number",
        3,
        2,
    ),
    "infinite box": (annotation(bbox=[0, 0, INF, 3]), "bbox.2 must be a finite number", 3, 2),
    "box of three numbers": (
        annotation(bbox=[0, 0, 3]),
        "bbox [0, 0, 3]; Field required",
        3,
        2,
    ),
    "negative box": (
        annotation(bbox=[9, 3, -7, 10]),
        "bbox.2 must be greater than or equal to 0",
        3,
        2,
    ),
    "box outside": (annotation(bbox=[2, 3, 40, 10]), "outside its 30×20 image", 3, 2),
    "no segmentation": (annotation(segmentation=None), "no segmentation", 3, 2),
    "empty segmentation": (annotation(segmentation=[]), "no polygon of at least 3", 3, 2),
    "empty polygon": (annotation(segmentation=[[]]), "no polygon of at least 3", 3, 2),
    "box and area 0": (annotation(bbox=[0, 0, 0, 0], area=0), "its mask has area 80", 3, 2),
    "image id a list": (
        annotation(image_id=[7]),
        "has image_id [7]; image_id must be a valid integer",
        3,
        2,
    ),
    "category id a list": (
        annotation(category_id=[2]),
        "category_id [2]; category_id must be",
        3,
        2,
    ),
    "annotation id a list": (
        annotation(id=[1]),
        "annotation [1] (image 7) has id [1]; id must be a valid integer",
        3,
        2,
    ),
    "image with an annotation's fields": (
        image(id=[7], image_id=1, segmentation=[[1, 1, 5, 1, 5, 5]]),
        "image [7] has id [7]; id must be a valid integer",
        2,
        1,
    ),
    "category with an annotation's fields": (
        lambda content: content["categories"][2].update(id=[90], image_id=1, segmentation=5),
        "category [90] has id [90]; id must be a valid integer",
        3,
        2,
    ),
    "no pixels to count": (image(height=10**6, width=10**6), "has 1000000×1000000 pixels", 2, 1),
    "odd coordinates": (
        annotation(segmentation=[[1, 1, 5, 1, 5, 5, 1]]),
        "two numbers a point",
        3,
        2,
    ),
    "two points": (annotation(segmentation=[[1, 1, 5, 5]]), "at least 3", 3, 2),
    "polygon of strings": (
        annotation(segmentation=[["1"] * 6]),
        "that is not [x1, y1, x2, y2",
        3,
        2,
    ),
    "polygon of lists": (
        annotation(segmentation=[[[1], 1, 5, 1, 5, 5]]),
        "that is not [x1, y1, x2, y2",
        3,
        2,
    ),
    "polygon with NaN": (
        annotation(segmentation=[[1, 1, 5, 1, NAN, 5]]),
        "x = nan, y = 5, outside",
        3,
        2,
    ),
    "polygon outside": (
        annotation(segmentation=[[1, 1, 50, 1, 50, 5]]),
        "x = 50, y = 1, outside",
        3,
        2,
    ),
    "polygon above": (
        annotation(segmentation=[[1, -9, 5, 1, 5, 5]]),
        "x = 1, y = -9, outside",
        3,
        2,
    ),
    "code of another size": (rle([600], (30, 20)), "size [30, 20]", 3, 2),
    "code too short": (rle([200, 100]), "adding up to 300, not to the 600 pixels", 3, 2),
    "code with a negative run": (rle([700, -100]), "a negative run length, -100", 3, 2),
    "code of strings": (rle(["200", "400"]), "not whole numbers", 3, 2),
    "code without counts": (rle(None), "broken run-length code", 3, 2),
    "compressed code too short": (rle("12"), "adding up to 3, not to the 600", 3, 2),
    "garbled code": (rle("\x01\x02"), "broken run-length code", 3, 2),
    "code of no area": (rle([600]), "has area 80, but its run lengths cover no pixel", 3, 2),
    "entry not an object": (lambda c: c["annotations"].append(5), "is 5, not an object", 3, 3),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_input(name: str, content, write) -> None:
    break_, words, images, annotations = BROKEN[name]
    break_(content)
    annotation_file, image_dir = write(content)
    with pytest.raises(DataError) as error:
        CocoIndex.load(annotation_file, image_dir)
    message = str(error.value)
    assert message.startswith(f"{annotation_file}: ")
    assert words in message
    assert "--skip-bad" in message
    assert "\n" not in message

    index = CocoIndex.load(annotation_file, image_dir, skip_bad=True)
    assert len(index.images) == images
    assert sum(map(len, index.annotations.values())) == annotations
    assert words in "\n".join(index.skipped)

    report = check_coco(split=f"{annotation_file}:{image_dir}")
    assert not report.ok
    assert words in str(report)


def test_a_problem_of_all_categories_is_told(content, write) -> None:
    for category in content["categories"]:
        del category["name"]
    with pytest.raises(DataError, match=r"category \d+ has no name"):
        CocoIndex.load(*write(content))


def test_names_may_be_numbers_and_boxes_empty(content, write) -> None:
    content["categories"][0]["name"] = 7
    content["annotations"][0]["bbox"] = []
    index = CocoIndex.load(*write(content))
    assert "7" in index.class_names
    assert any("no bbox in the image" in note for note in index.notes)


def test_an_area_far_above_the_mask_is_told(content, write) -> None:
    """As SuperAnnotate writes it."""
    content["annotations"][0]["area"] = 11_800
    assert any("area is larger than their mask" in n for n in CocoIndex.load(*write(content)).notes)


def test_several_problems_are_counted(content, write) -> None:
    content["annotations"][0]["image_id"] = 4
    content["annotations"][1]["category_id"] = 4
    with pytest.raises(DataError, match=r"annotation 1 .*\(and 1 more\)"):
        CocoIndex.load(*write(content))


def test_annotations_that_cover_no_pixel_are_left_out_with_a_note(content, write) -> None:
    """COCO's train2017 has two of these, 918 and 2206849; they must not stop a training."""
    content["annotations"][0] |= {
        "segmentation": [[9.98, 8.56, 15.52, 8.56, 15.52, 8.56, 11.09, 8.56]],
        "area": 0.0,
        "bbox": [9.98, 8.56, 5.54, 0.0],
    }
    sliver = [4.1, 2.2, 4.2, 2.2, 4.2, 18.2, 4.1, 18.2]  # 16 pixels high, a tenth wide
    assert coco_mask.area(coco_mask.frPyObjects([sliver], 20, 30)).sum() == 0
    content["annotations"][2] |= {
        "segmentation": [sliver],
        "area": 1.6,
        "bbox": [4.1, 2.2, 0.1, 16],
    }
    annotation_file, image_dir = write(content)
    index = CocoIndex.load(annotation_file, image_dir)
    assert [a.id for a in index.all_annotations()] == [2]
    assert index.skipped == []
    assert index.notes[0] == (
        f"{annotation_file}: annotations that cover no pixel (left out): 2 "
        "(annotation 1 (image 7), annotation 5 (image 3))"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
    ],
)
def test_files_that_are_no_coco(text: str, words: str, content, write) -> None:
    annotation_file, image_dir = write(content)
    annotation_file.write_text(text)
    with pytest.raises(DataError, match=words):
        CocoIndex.load(annotation_file, image_dir, skip_bad=True)


def test_content_may_have_values_of_numpy(content) -> None:
    """As Python programs make it of arrays, and masks as pycocotools encodes them."""
    plain = CocoIndex.load(content)
    polygon, crowd, compressed = content["annotations"]
    polygon["segmentation"] = [np.array(part, np.float32) for part in polygon["segmentation"]]
    crowd["segmentation"] = {"size": np.array([20, 30]), "counts": np.array([200, 100, 300])}
    compressed["segmentation"]["counts"] = compressed["segmentation"]["counts"].encode()
    for entry in (*content["images"], *content["annotations"], *content["categories"]):
        entry |= {key: np.int64(value) for key, value in entry.items() if type(value) is int}
    for entry in content["annotations"]:
        entry |= {"bbox": np.array(entry["bbox"], np.float32), "area": np.float32(entry["area"])}
    assert CocoIndex.load(content) == plain
    assert type(polygon["id"]) is np.int64  # what was given stays as it is


def test_missing_files(content, write, tmp_path) -> None:
    annotation_file, image_dir = write(content)
    with pytest.raises(DataError, match="cannot be read"):
        CocoIndex.load(tmp_path / "no.json", image_dir)
    with pytest.raises(DataError, match="no such image folder"):
        CocoIndex.load(annotation_file, tmp_path / "no")


def test_an_empty_image_file_is_missing(content, write) -> None:
    annotation_file, image_dir = write(content)
    (image_dir / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"image 9 \(c.png\) is missing"):
        CocoIndex.load(annotation_file, image_dir)


def test_memory_of_annotations_is_freed_while_they_are_read(
    content, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the memory of a large file stays taken, since what is kept lies between."""
    first, *_ = content["annotations"]
    long = {"segmentation": [[1, 2, 9, 2, 9, 8, *[1, 8] * 1000]], "bbox": [1, 2, 8, 6], "area": 48}
    content["annotations"] = [first | long | {"id": i} for i in range(100)]
    held, read = [], coco_reader.read_segmentation

    def read_segmentation(*arguments: Any) -> Any:
        held.append(tracemalloc.get_traced_memory()[0])
        return read(*arguments)

    monkeypatch.setattr(coco_reader, "read_segmentation", read_segmentation)
    annotation_file, _ = write(content)
    tracemalloc.start()
    try:
        index = CocoIndex.load(annotation_file)
    finally:
        tracemalloc.stop()
    assert len(held) == len(index.annotations[first["image_id"]]) == 100
    assert held[-1] < held[0] / 2
