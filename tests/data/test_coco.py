from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from b2inst.data import CocoIndex, DataError, check_coco, find_split


def test_labels_are_contiguous_in_order_of_category_id(content, write) -> None:
    index = CocoIndex.load(*write(content))
    assert index.category_ids == (2, 44, 90)
    assert index.class_names == ("dog", "vase", "kite")
    assert [a.label for a in index.annotations[7]] == [1, 0]
    assert index.skipped == []


def test_images_keep_the_order_of_the_file_and_may_lack_annotations(content, write) -> None:
    annotation_file, image_dir = write(content)
    index = CocoIndex.load(annotation_file, image_dir)
    assert [image.id for image in index.images] == [7, 3, 9]
    assert index.images[0].path == image_dir / "a.png"
    assert (index.images[0].height, index.images[0].width) == (20, 30)
    assert index.annotations[9] == []
    assert (index.annotation_file, index.image_dir) == (annotation_file, image_dir)


def test_polygons_and_both_kinds_of_run_lengths(content, write) -> None:
    index = CocoIndex.load(*write(content))
    polygon, crowd = index.annotations[7]
    (compressed,) = index.annotations[3]
    expected = np.zeros((3, 20, 30), dtype=np.uint8)
    expected[0, 3:13, 2:10] = 1
    expected[1, :, 10:15] = 1
    expected[2, :, 20:24] = 1
    for annotation, mask in zip((polygon, crowd, compressed), expected, strict=True):
        np.testing.assert_array_equal(annotation.mask(), mask)
    assert (polygon.crowd, crowd.crowd) == (False, True)
    assert polygon.box == (2, 3, 10, 13)


def test_what_sticks_out_a_little_is_clipped(content, write) -> None:
    content["annotations"][0] |= {
        "bbox": [-1.0, 3.0, 32.0, 10.0],
        "segmentation": [[-1, 3, 31, 3, 31, 13, -1, 13]],
    }
    annotation = CocoIndex.load(*write(content)).annotations[7][0]
    assert annotation.box == (0, 3, 30, 13)
    assert annotation.mask().sum() == 300


@pytest.mark.parametrize("box", [[-2.5, 3, 1, 10], [2, 21, 8, 1], [30, 3, 1, 10]])
def test_a_box_beside_the_image_is_the_masks(box: list[float], content, write) -> None:
    """Within the tolerance, but clipped it would end with x2 < x1."""
    content["annotations"][0]["bbox"] = box
    index = CocoIndex.load(*write(content))
    assert index.annotations[7][0].box == (2, 3, 10, 13)
    assert "annotations with no bbox in the image (taken from the mask): 1" in index.notes[0]


def test_annotated_leaves_out_images_without_instances(content, write) -> None:
    content["annotations"][2]["iscrowd"] = 1
    index = CocoIndex.load(*write(content))
    assert [image.id for image in index.annotated().images] == [7]


def test_subset(content, write) -> None:
    index = CocoIndex.load(*write(content))
    part = index.subset([9, 7])
    assert [image.id for image in part.images] == [7, 9]
    assert set(part.annotations) == {7, 9}
    assert part.class_names == index.class_names
    assert part.fingerprint != index.fingerprint
    assert index.subset([3, 7, 9]).fingerprint == index.fingerprint


def test_fingerprint_follows_annotations_and_images(content, write) -> None:
    annotation_file, image_dir = write(content)
    first = CocoIndex.load(annotation_file, image_dir).fingerprint
    assert CocoIndex.load(annotation_file, image_dir).fingerprint == first
    with (image_dir / "b.png").open("ab") as file:
        file.write(b"x")
    assert CocoIndex.load(annotation_file, image_dir).fingerprint != first
    content["annotations"][0]["area"] = 81.0
    assert CocoIndex.load(*write(content)).fingerprint != first


def test_images_in_folders(content, write) -> None:
    annotation_file, image_dir = write(content)
    (image_dir / "deep").mkdir()
    (image_dir / "a.png").rename(image_dir / "deep" / "a.png")
    content["images"][0]["file_name"] = "deep/a.png"
    annotation_file.write_text(json.dumps(content))
    assert CocoIndex.load(annotation_file, image_dir).images[0].path.is_file()


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_agrees_with_pycocotools_on_coco(coco_tiny: Path, split: str) -> None:
    index = CocoIndex.load(*find_split(coco_tiny, split))
    oracle = COCO(str(index.annotation_file))
    assert index.category_ids == tuple(sorted(oracle.getCatIds()))
    assert sorted(image.id for image in index.images) == sorted(oracle.getImgIds())
    for image in index.images[:10]:
        expected = oracle.loadAnns(oracle.getAnnIds(image.id))
        assert [a.id for a in index.annotations[image.id]] == [a["id"] for a in expected]
        for ours, theirs in zip(index.annotations[image.id], expected, strict=True):
            assert index.category_ids[ours.label] == theirs["category_id"]
            mask = ours.mask()
            np.testing.assert_array_equal(mask, oracle.annToMask(theirs))


def test_addresses_in_place_of_file_names(content, write) -> None:
    content["images"][0]["file_name"] = "http://images.cocodataset.org/train2017/a.png"
    index = CocoIndex.load(*write(content))
    assert index.images[0].path.name == "a.png"
    assert index.notes[0].endswith(
        "images found by the last part of their file_name: 1 "
        "(http://images.cocodataset.org/train2017/a.png)"
    )


def test_one_file_that_is_two_images_is_told(content, write) -> None:
    content["images"][1]["file_name"] = "a.png"
    assert "a.png, ids 7 and 3" in CocoIndex.load(*write(content)).notes[0]


def test_panoptic_annotations_are_told(content, write) -> None:
    content["annotations"] = [{"image_id": 7, "file_name": "a.png", "segments_info": []}]
    with pytest.raises(DataError, match="panoptic annotations; give the instances file"):
        CocoIndex.load(*write(content))


def test_byte_order_marks(content, write) -> None:
    annotation_file, image_dir = write(content)
    text = annotation_file.read_text()
    for encoding in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32"):
        annotation_file.write_text(text, encoding=encoding)
        index = CocoIndex.load(annotation_file, image_dir)
        assert [a.id for a in index.all_annotations()] == [1, 2, 5]
    assert "byte-order mark" in index.notes[0]


@pytest.mark.parametrize("form", ["polygon", "run lengths"])
@pytest.mark.parametrize(
    "box",
    [
        [0.125, 1 / 6, 0.25, 1 / 3],  # fractions of the image's sides
        [50, 40, 20, 15],  # beside the mask
        [10, 10, 30, 30],  # x1, y1, x2, y2
        [0, 0, 80, 60],
    ],
)
def test_a_box_that_contradicts_its_mask_is_the_masks(
    box: list[float], form: str, content, write
) -> None:
    content["images"] = [{"id": 7, "file_name": "a.png", "height": 60, "width": 80}]
    polygon = [[10, 10, 30, 10, 30, 30, 10, 30]]
    code = coco_mask.merge(coco_mask.frPyObjects(polygon, 60, 80))
    lengths = {"size": [60, 80], "counts": code["counts"].decode()}
    segmentation = polygon if form == "polygon" else lengths
    common = {"image_id": 7, "category_id": 2, "segmentation": segmentation, "area": 400}
    content["annotations"] = [
        common | {"id": 1, "bbox": box, "iscrowd": 0},
        common | {"id": 2, "bbox": [9.5, 10, 25, 22], "iscrowd": 0},
    ]
    file, folder = write(content)
    Image.new("RGB", (80, 60)).save(folder / "a.png")
    replaced, rough = CocoIndex.load(file, folder).all_annotations()
    assert replaced.box == (10, 10, 30, 30)
    assert rough.bbox == (9.5, 10, 25, 22)
    report = check_coco(split=f"{file}:{folder}")
    assert report.ok
    (note,) = report.splits[0].notes
    assert note == (
        f"{file}: annotations with a bbox that is not x, y, width, height of their mask in pixels "
        "(taken from the mask): 1 (annotation 1 (image 7))"
    )
    assert note in str(report)


def test_a_hole_that_is_written_as_a_polygon_is_noted(content, write) -> None:
    content["images"] = [{"id": 7, "file_name": "a.png", "height": 60, "width": 80}]
    square, hole = [10, 10, 50, 10, 50, 50, 10, 50], [20, 20, 40, 20, 40, 40, 20, 40]
    common = {"image_id": 7, "category_id": 2, "bbox": [10, 10, 40, 40], "iscrowd": 0}
    content["annotations"] = [
        common | {"id": 1, "segmentation": [square, hole], "area": 1200},
        common | {"id": 2, "segmentation": [square, hole], "area": 1600},
        common | {"id": 3, "segmentation": [square], "area": 1420},
    ]
    file, folder = write(content)
    Image.new("RGB", (80, 60)).save(folder / "a.png")
    assert [int(a.mask().sum()) for a in CocoIndex.load(file, folder).all_annotations()] == [
        1600
    ] * 3
    (note,) = check_coco(split=f"{file}:{folder}").splits[0].notes
    assert note == (
        f"{file}: annotations whose polygons cover more than their area (holes are filled): 1 "
        "(annotation 1 (image 7))"
    )


def test_boxes_of_coco_are_not_touched(coco_tiny) -> None:
    for split in ("train2017", "val2017"):
        file = coco_tiny / f"annotations/instances_{split}.json"
        index = CocoIndex.load(file)
        assert index.notes == []
        found = {a.id: list(a.bbox) for a in index.all_annotations()}
        truth = {a["id"]: a["bbox"] for a in json.loads(file.read_text())["annotations"]}
        assert found == truth


def test_what_the_file_lacks_comes_from_the_mask(content, write) -> None:
    boxes = [a.pop("bbox") for a in content["annotations"]]
    areas = [a.pop("area") for a in content["annotations"]]
    content["annotations"][1]["area"] = 0
    content["annotations"][2]["bbox"] = [20, 0, 0, 0]
    index = CocoIndex.load(*write(content))
    found = list(index.all_annotations())
    assert [list(a.bbox) for a in found] == boxes
    assert [a.area for a in found] == areas
    assert sorted(note.split(": ", 1)[1].split(" (annotation")[0] for note in index.notes[:-1]) == [
        "annotations with no area (counted from the mask): 3",
        "annotations with no bbox in the image (taken from the mask): 3",
    ]
