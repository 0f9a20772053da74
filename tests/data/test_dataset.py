from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from b2inst.data import CocoDataset, CocoIndex, DataError, find_split, train_transforms
from b2inst.data.transforms import ResizeShorterSide

AS_IS = ResizeShorterSide(20, 1000)


def test_a_sample(content, write) -> None:
    annotation_file, image_dir = write(content)
    dataset = CocoDataset(CocoIndex.load(annotation_file, image_dir), AS_IS)
    assert len(dataset) == 3
    image, targets = dataset[0]
    pixels = np.asarray(Image.open(image_dir / "a.png"))
    np.testing.assert_array_equal(image.permute(1, 2, 0), pixels)
    assert targets.image_id == 7
    assert len(targets) == 1  # the crowd is no instance
    assert targets.boxes.tolist() == [[2, 3, 10, 13]]
    assert targets.labels.tolist() == [1]
    assert targets.masks.shape == (1, 20, 30)
    assert targets.masks[0, 3:13, 2:10].all()
    assert targets.masks.sum() == 80
    dtypes = [
        t.dtype for t in (image, targets.boxes, targets.labels, targets.masks, targets.semantic)
    ]
    assert dtypes == [torch.uint8, torch.float32, torch.int64, torch.uint8, torch.int32]
    tensors = (image, targets.boxes, targets.masks, targets.semantic)
    assert all(type(tensor) is torch.Tensor for tensor in tensors)


def test_crowds_are_in_the_semantic_map_and_later_ones_on_top(content, write) -> None:
    content["annotations"][1]["segmentation"]["counts"] = [100, 100, 400]  # columns 5 to 9
    _, targets = CocoDataset(CocoIndex.load(*write(content)), AS_IS)[0]
    expected = torch.zeros(20, 30, dtype=torch.int32)
    expected[3:13, 2:10] = 2  # vase, label 1
    expected[:, 5:10] = 1  # crowd of dogs, label 0
    assert torch.equal(targets.semantic, expected)
    assert targets.masks.sum() == 80


def test_boxes_of_crowds_go_with_the_image(content, write) -> None:
    x, y, width, height = content["annotations"][1]["bbox"]
    double = ResizeShorterSide(40, 99)
    _, targets = CocoDataset(CocoIndex.load(*write(content)), double)[0]
    assert targets.crowds is not None
    assert targets.crowds.tolist() == [[2 * x, 2 * y, 2 * (x + width), 2 * (y + height)]]
    assert targets.to("meta").crowds.device.type == "meta"
    _, none = CocoDataset(CocoIndex.load(*write(content)), double)[2]
    assert none.crowds.shape == (0, 4)


def test_no_annotations(content, write) -> None:
    image, targets = CocoDataset(CocoIndex.load(*write(content)), ResizeShorterSide(40, 99))[2]
    assert image.shape == (3, 40, 60)
    assert len(targets) == 0
    assert targets.boxes.shape == (0, 4)
    assert targets.masks.shape == (0, 40, 60)
    assert not targets.semantic.any()


def test_instances_that_vanish_are_dropped(content, write) -> None:
    content["annotations"][1] |= {
        "iscrowd": 0,
        "bbox": [1, 1, 1, 1],
        "segmentation": [[1, 1, 2, 1, 2, 2, 1, 2]],
    }
    index = CocoIndex.load(*write(content))
    assert len(CocoDataset(index, AS_IS)[0][1]) == 2
    _, targets = CocoDataset(index, ResizeShorterSide(4, 99))[0]
    assert targets.labels.tolist() == [1]
    assert len(targets.boxes) == len(targets.masks) == 1


AUGMENTATIONS = {
    "as it is": AS_IS,
    "smaller": ResizeShorterSide(7, 1000),
    "larger": ResizeShorterSide(37, 1000),
    "all eight orientations": train_transforms(
        shorter=(9, 20, 33), longer_max=40, vertical_flip=0.5, transpose=0.5
    ),
    "SSD's": train_transforms(shorter=9, longer_max=9, fixed_size=(25, 17), ssd=True),
}


@pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS.keys())
def test_masks_are_what_the_transforms_make_of_bitmaps(augment, content, write) -> None:
    """Of stacks of whole bitmaps, drawn by pycocotools, with the same random numbers."""
    annotations = content["annotations"]
    annotations[1] |= {"iscrowd": 0, "image_id": 7}
    annotations[2] |= {"iscrowd": 1, "image_id": 7}
    annotation_file, image_dir = write(content)
    dataset = CocoDataset(CocoIndex.load(annotation_file, image_dir), augment)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(annotation_file)
    bitmaps = torch.from_numpy(np.stack([coco.annToMask(a) for a in annotations]))
    semantic = torch.zeros(20, 30, dtype=torch.uint8)
    for bitmap, label in zip(bitmaps, [1, 0, 2], strict=True):
        semantic[bitmap.bool()] = label + 1
    x, y, width, height = torch.tensor([a["bbox"] for a in annotations[:2]]).unbind(1)
    boxes = torch.stack([x, y, x + width, y + height], dim=1)
    shapes = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(20, 30)),
        "masks": tv_tensors.Mask(bitmaps[:2]),
        "semantic": tv_tensors.Mask(semantic),
    }
    kept = 0
    for seed in range(30):
        torch.manual_seed(seed)
        image, targets = dataset[0]
        torch.manual_seed(seed)
        picture, expected = augment(Image.open(image_dir / "a.png"), shapes)
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(picture))
        boxes, masks = (expected[name].as_subclass(torch.Tensor) for name in ("boxes", "masks"))
        keep = (boxes[:, 2:] > boxes[:, :2]).all(1) & masks.flatten(1).any(1).bool()
        assert torch.equal(targets.masks, masks[keep])
        assert torch.equal(targets.boxes, boxes[keep])
        assert torch.equal(targets.labels, torch.tensor([1, 0])[keep])
        assert torch.equal(targets.semantic, expected["semantic"].int())
        kept += len(targets)
    assert kept > 20


def test_tight_boxes_are_around_what_a_crop_leaves(content, write) -> None:
    """An L has nothing in the upper right of its box."""
    corner = [2, 3, 4, 3, 4, 11, 10, 11, 10, 13, 2, 13]
    content["annotations"][0] |= {"segmentation": [corner], "bbox": [2, 3, 8, 10], "area": 28}
    index = CocoIndex.load(*write(content))

    def upper_half(image, shapes):
        return v2.functional.crop(image, 0, 0, 8, 30), {
            name: v2.functional.crop(shape, 0, 0, 8, 30) for name, shape in shapes.items()
        }

    _, clipped = CocoDataset(index, upper_half)[0]
    assert clipped.boxes.tolist() == [[2, 3, 10, 8]]
    _, tight = CocoDataset(index, upper_half, tight_boxes=True)[0]
    assert tight.boxes.tolist() == [[2, 3, 4, 8]]
    assert tight.masks.sum() == 10
    assert CocoDataset(index, upper_half, tight_boxes=True)[2][1].boxes.shape == (0, 4)


def test_more_classes_than_a_byte_counts(content, write) -> None:
    content["categories"] = [{"id": k, "name": f"class {k}"} for k in range(1, 1001)]
    content["annotations"][0]["category_id"] = 848
    content["annotations"][1]["category_id"] = 1000
    _, targets = CocoDataset(CocoIndex.load(*write(content)), ResizeShorterSide(40, 99))[0]
    assert targets.labels.tolist() == [847]
    assert targets.semantic.unique().tolist() == [0, 848, 1000]
    assert (targets.semantic[6:26, 4:20] == 848).all()


def test_memory_is_that_of_the_sample_not_of_the_file(content, write) -> None:
    height, width = 600, 900
    annotation_file, image_dir = write(content)
    Image.new("RGB", (width, height)).save(image_dir / "a.png")
    content["images"][0] |= {"height": height, "width": width}
    content["annotations"] = [content["annotations"][0] | {"id": k} for k in range(100)]
    annotation_file.write_text(json.dumps(content))
    dataset = CocoDataset(CocoIndex.load(annotation_file, image_dir), ResizeShorterSide(300, 900))
    tracemalloc.start()
    try:
        _, targets = dataset[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert targets.masks.shape == (100, 300, 450)
    assert peak < targets.masks.numel() + 20 * height * width


def test_an_image_of_another_size_is_an_error(content, write) -> None:
    annotation_file, image_dir = write(content)
    Image.new("RGB", (20, 30)).save(image_dir / "b.png")
    dataset = CocoDataset(CocoIndex.load(annotation_file, image_dir), AS_IS)
    with pytest.raises(DataError, match=r"b.png: .* is 20×30 but its annotations say 30×20"):
        dataset[1]


def test_coco_boxes_fit_their_masks(coco_tiny: Path) -> None:
    index = CocoIndex.load(*find_split(coco_tiny, "val2017"))
    dataset = CocoDataset(index, train_transforms(shorter=[320, 400], longer_max=533))
    torch.manual_seed(0)
    for i in range(5):
        image, targets = dataset[i]
        assert image.shape[1:] == targets.masks.shape[1:] == targets.semantic.shape
        off = (targets.boxes - (masks_to_boxes(targets.masks) + torch.tensor([0, 0, 1, 1]))).abs()
        assert off.median() < 1.5
