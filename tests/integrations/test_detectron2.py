"""Our models as detectron2 calls them, beside the same models called natively."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.data import DatasetMapper, transforms
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BitMasks, Boxes, Instances

from b2inst.data import CocoDataset, CocoIndex, find_split
from b2inst.data.transforms import ResizeTo
from b2inst.integrations.detectron2 import B2InstSegmenter
from b2inst.models import BasisSegmenter, create_model
from b2inst.structures import Targets

Finder = Callable[..., BasisSegmenter]
Picture = Callable[..., np.ndarray]

FAMILIES = ["blendmask-tiny", "b2inst-blendmask-tiny", "b2inst-yolact-tiny", "b2inst-condinst-tiny"]


def as_input(image: np.ndarray, *, shorter: int, longer: int, bgr: bool = True) -> dict[str, Any]:
    """What detectron2's predictor and test loader make of an RGB image."""
    height, width = image.shape[:2]
    if bgr:
        image = image[:, :, ::-1]
    resized = transforms.ResizeShortestEdge(shorter, longer).get_transform(image).apply_image(image)
    tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    return {"image": tensor, "height": height, "width": width}


class TestPredictions:
    @pytest.mark.parametrize("bgr", [True, False])
    @pytest.mark.parametrize("name", FAMILIES)
    def test_they_are_those_of_predict(
        self, finder: Finder, picture: Picture, name: str, bgr: bool
    ) -> None:
        model = finder(name)
        adapter = B2InstSegmenter(segmenter=model, input_format="BGR" if bgr else "RGB").eval()
        # To a model of one size images come as they are, which detectron2 writes as 0.
        shorter = 0 if model.preprocessor.fixed_size else 96
        for image in (picture(120, 75), picture(200, 230, seed=1)):
            entry = as_input(image, shorter=shorter, longer=160, bgr=bgr)
            (expected,) = model.predict([image])
            found = adapter([entry])[0]["instances"]
            assert len(found) > 5
            assert found.image_size == image.shape[:2]
            assert found.pred_boxes.tensor.equal(expected.boxes)
            assert found.scores.equal(expected.scores)
            assert found.pred_classes.equal(expected.labels)
            assert found.pred_masks.equal(expected.masks)
            assert found.class_scores.equal(expected.class_scores)
            assert found.has("iou_scores") == (expected.iou_scores is not None)

    @pytest.mark.parametrize("name", ["b2inst-blendmask-tiny", "yolact-tiny"])
    def test_each_input_gets_its_own_size(
        self, finder: Finder, picture: Picture, name: str
    ) -> None:
        adapter = B2InstSegmenter(segmenter=finder(name)).eval()
        entries = [
            as_input(picture(120, 75), shorter=96, longer=160),
            as_input(picture(64, 96), shorter=96, longer=160),
        ]
        del entries[1]["height"], entries[1]["width"]
        first, second = (result["instances"] for result in adapter(entries))
        assert first.pred_masks.shape[1:] == first.image_size == (120, 75)
        assert second.pred_masks.shape[1:] == second.image_size == (96, 144)
        assert min(len(first), len(second)) > 5

    def test_results_can_be_changed_in_place(self, finder: Finder, picture: Picture) -> None:
        adapter = B2InstSegmenter(segmenter=finder("blendmask-tiny")).eval()
        (result,) = adapter([as_input(picture(96, 96), shorter=96, longer=160)])
        found = result["instances"]
        before = found.pred_boxes.tensor.clone()
        found.pred_boxes.scale(2, 2)
        assert found.pred_boxes.tensor.equal(2 * before)

    def test_nothing_found(self, finder: Finder, picture: Picture) -> None:
        model = finder("b2inst-blendmask-tiny")
        torch.nn.init.constant_(model.instance_head.class_logits.bias, -50)
        torch.nn.init.zeros_(model.instance_head.class_logits.weight)
        adapter = B2InstSegmenter(segmenter=model).eval()
        (result,) = adapter([as_input(picture(96, 80), shorter=96, longer=160)])
        assert len(result["instances"]) == 0
        assert result["instances"].pred_masks.shape == (0, 96, 80)

    def test_other_orders_of_channels_are_refused(self, finder: Finder) -> None:
        with pytest.raises(ValueError, match=r"INPUT\.FORMAT is 'YUV-BT\.601'"):
            B2InstSegmenter(segmenter=finder("blendmask-tiny"), input_format="YUV-BT.601")


class TestTraining:
    def inputs(self, folder: Path, mask_format: str, resizing: list[Any]) -> list[dict[str, Any]]:
        file, images = find_split(folder, "train")
        mapper = DatasetMapper(
            is_train=True,
            augmentations=resizing,
            image_format="BGR",
            use_instance_mask=True,
            instance_mask_format=mask_format,
        )
        return [mapper(record) for record in load_coco_json(str(file), str(images), "b2inst")]

    @pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
    @pytest.mark.parametrize("name", FAMILIES)
    def test_losses_are_those_of_the_model(
        self, finder: Finder, coco_folder: Path, name: str, mask_format: str
    ) -> None:
        model = finder(name).train()
        fixed = model.preprocessor.fixed_size
        # The files are of the network's size, or squeezed to it by the model.
        native = CocoDataset(
            CocoIndex.load(*find_split(coco_folder, "train")),
            ResizeTo(fixed) if fixed else lambda image, shapes: (image, shapes),
        )
        images, targets = zip(*[native[i] for i in range(len(native))], strict=True)
        expected = copy.deepcopy(model)(list(images), list(targets))
        losses = B2InstSegmenter(segmenter=model)(self.inputs(coco_folder, mask_format, []))
        assert losses.keys() == expected.keys()
        for part, value in losses.items():
            assert value.isfinite()
            assert value.equal(expected[part]), part

    def test_targets_follow_the_image_when_it_is_resized(
        self, finder: Finder, coco_folder: Path
    ) -> None:
        given = spy(finder("blendmask-tiny"))
        resizing = [transforms.ResizeShortestEdge(48, 200), transforms.RandomFlip(1.0)]
        B2InstSegmenter(segmenter=given)(self.inputs(coco_folder, "polygon", resizing))
        images, targets = given.seen
        for image, target in zip(images, targets, strict=True):
            assert min(image.shape[1:]) == 48
            assert target.masks.shape[1:] == target.semantic.shape == image.shape[1:]
            for mask, box in zip(target.masks, target.boxes, strict=True):
                ys, xs = mask.nonzero(as_tuple=True)
                tight = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                assert (torch.tensor(tight) - box).abs().max() <= 1.5

    def test_later_objects_lie_on_top(self, finder: Finder) -> None:
        given = spy(finder("blendmask-tiny"))
        below, above, void = (bitmap(0, 0, 20, 20), bitmap(10, 10, 30, 30), bitmap(0, 0, 0, 0))
        B2InstSegmenter(segmenter=given)([entry([below, above, void], classes=[2, 0, 1])])
        (target,) = given.seen[1]
        assert target.labels.tolist() == [2, 0]  # what covers nothing is left out
        assert target.semantic[5, 5] == 3
        assert target.semantic[15, 15] == target.semantic[25, 25] == 1
        assert target.semantic[25, 5] == 0

    def test_an_image_without_objects(self, finder: Finder) -> None:
        adapter = B2InstSegmenter(segmenter=finder("b2inst-blendmask-tiny").train())
        empty = Instances(
            (96, 96), gt_boxes=Boxes(np.zeros((0, 4))), gt_classes=torch.zeros(0).long()
        )
        losses = adapter([{"image": torch.zeros(3, 96, 96, dtype=torch.uint8), "instances": empty}])
        assert losses["loss_mask"] == 0
        assert losses["loss_class"] > 0

    def test_bad_input_is_named(self, finder: Finder) -> None:
        adapter = B2InstSegmenter(segmenter=finder("blendmask-tiny").train())
        with pytest.raises(ValueError, match=r"a\.jpg has class 3.*set MODEL\.B2INST\.NUM_CLASSES"):
            adapter([entry([bitmap(0, 0, 20, 20)], classes=[3]) | {"file_name": "a.jpg"}])

    @pytest.mark.parametrize("name", FAMILIES)
    def test_mixed_precision(self, coco_folder: Path, name: str) -> None:
        torch.manual_seed(0)
        adapter = B2InstSegmenter(segmenter=create_model(name, num_classes=3))
        inputs = self.inputs(coco_folder, "bitmask", [])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = adapter(inputs)
        total = sum(losses.values())
        total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in adapter.parameters())
        whole = sum(value.item() for value in adapter(inputs).values())
        assert math.isclose(total.item(), whole, rel_tol=0.01)


class Spy(BasisSegmenter):
    """Keeps what it is given to train on."""

    seen: tuple[list[torch.Tensor], list[Targets]]

    def forward(self, images: list[torch.Tensor], targets: list[Targets]) -> dict[str, Any]:
        self.seen = (images, targets)
        return {}


def spy(model: BasisSegmenter) -> Spy:
    given = Spy(**dict(model.named_children()))  # type: ignore[arg-type]
    given.recipe = model.recipe
    return given.train()


def bitmap(x1: int, y1: int, x2: int, y2: int) -> torch.Tensor:
    mask = torch.zeros(96, 96, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def entry(masks: list[torch.Tensor], classes: list[int]) -> dict[str, Any]:
    """An input of 96×96 pixels, with boxes that are not empty."""
    stacked = BitMasks(torch.stack(masks))
    boxes = stacked.get_bounding_boxes()
    boxes.tensor[:, 2:] = boxes.tensor[:, 2:].clamp(min=1)
    instances = Instances(
        (96, 96), gt_boxes=boxes, gt_classes=torch.tensor(classes), gt_masks=stacked
    )
    return {"image": torch.zeros(3, 96, 96, dtype=torch.uint8), "instances": instances}
