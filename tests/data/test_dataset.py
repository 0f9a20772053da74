from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

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
    assert dtypes == [torch.uint8, torch.float32, torch.int64, torch.uint8, torch.uint8]
    tensors = (image, targets.boxes, targets.masks, targets.semantic)
    assert all(type(tensor) is torch.Tensor for tensor in tensors)


def test_crowds_are_in_the_semantic_map_and_later_ones_on_top(content, write) -> None:
    content["annotations"][1]["segmentation"]["counts"] = [100, 100, 400]  # columns 5 to 9
    _, targets = CocoDataset(CocoIndex.load(*write(content)), AS_IS)[0]
    expected = torch.zeros(20, 30, dtype=torch.uint8)
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


def test_the_cache_changes_nothing(content, write) -> None:
    index = CocoIndex.load(*write(content))
    augment = train_transforms(
        shorter=[10, 20, 31], longer_max=99, vertical_flip=0.5, transpose=0.5
    )
    plain, cached = CocoDataset(index, augment), CocoDataset(index, augment, cache=True)
    for seed in range(20):
        torch.manual_seed(seed)
        image, targets = plain[seed % 3]
        torch.manual_seed(seed)
        image_again, targets_again = cached[seed % 3]
        assert torch.equal(image, image_again)
        assert torch.equal(targets.masks, targets_again.masks)
        assert torch.equal(targets.boxes, targets_again.boxes)
        for tensor in (image_again, targets_again.masks, targets_again.boxes):
            tensor.zero_()
    assert cached[0][0].any()
    assert cached[0][1].boxes.any()
    assert cached[0][1].masks.any()


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
