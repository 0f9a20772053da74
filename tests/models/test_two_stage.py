"""Mask R-CNN and what is made of it, whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

import b2inst
from b2inst.models import ModelError, TwoStageSegmenter, create_model, with_bases
from b2inst.modules.center_mask import FCOSDetector
from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.structures import Targets
from b2inst.weights import load_model, save_model

Picture = Callable[..., np.ndarray]
MakeTargets = Callable[..., Targets]
NAMES = [
    "maskrcnn-tiny",
    "ms-rcnn-tiny",
    "bmask-rcnn-tiny",
    "pointrend-tiny",
    "centermask-tiny",
    "fcis-tiny",
    "fcispp-tiny",
    "mnc-tiny",
    "masklab-tiny",
    "tensormask-tiny",
]
_RCNN = {"objectness", "rpn_box_reg", "class", "box", "mask"}
#: Parts of each model's loss.
LOSSES = {
    "maskrcnn-tiny": _RCNN,
    "ms-rcnn-tiny": _RCNN | {"iou_score"},
    "bmask-rcnn-tiny": _RCNN | {"boundary"},
    "pointrend-tiny": _RCNN | {"point"},
    "fcis-tiny": _RCNN,
    "fcispp-tiny": _RCNN,
    "mnc-tiny": _RCNN,
    "masklab-tiny": _RCNN | {"coarse_mask", "semantic", "direction"},
    "centermask-tiny": {"class", "box", "centerness", "mask", "iou_score"},
    "tensormask-tiny": {"class", "box", "mask"},
}
SCORED = ("ms-rcnn-tiny", "centermask-tiny")


def tiny(name: str) -> TwoStageSegmenter:
    """A small model that finds fifteen instances in any image."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, class_names=("a", "b", "c"))
    assert isinstance(model, TwoStageSegmenter)
    model.detector.score_threshold = 0.0
    model.max_detections = 15
    if isinstance(model.detector, FasterRCNN):
        torch.nn.init.normal_(model.detector.roi_heads.box_predictor.bbox_pred.weight, std=0.1)
    elif isinstance(model.detector, FCOSDetector):
        torch.nn.init.constant_(model.detector.head.distances.bias, 4.0)  # into the image
        torch.nn.init.normal_(model.mask_head.predictor.mask_fcn_logits.weight)
    return model.eval()


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_mask_r_cnn_is_as_large_as_torchvisions() -> None:
    """But for the mask of background, which torchvision predicts without using it."""
    with torch.device("meta"):
        ours = create_model("maskrcnn-r50", num_classes=90, frozen_norm=True)
        theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
        norms = sum(
            p.numel() for n, p in theirs.named_parameters() if ".bn" in n or "downsample.1" in n
        )
    assert count(ours) == count(theirs) - norms - 257


def test_anchors_lie_on_their_features_in_images_of_any_size() -> None:
    """P6 has cells of 64 pixels only where the padded image is a whole number of them."""
    with torch.device("meta"):
        model = create_model("maskrcnn-r50", num_classes=2)
    batch = model.preprocessor([torch.zeros(3, 800, 1090, dtype=torch.uint8)])
    height, width = batch.images.shape[-2:]
    levels = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in model.backbone.strides]
    (anchors,) = model.detector.rpn.anchor_generator(ImageList(batch.images, batch.sizes), levels)
    start = 0
    for stride, level in zip(model.backbone.strides, levels, strict=True):
        cells = level.shape[2] * level.shape[3]
        own = anchors[start : start + 3 * cells].unflatten(0, (cells, 3))[:, 1]
        start += 3 * cells
        assert (own[1] - own[0]).tolist() == [stride, 0, stride, 0]
        assert (own[-1, :2] - own[0, :2]).tolist() == [
            stride * (level.shape[3] - 1),
            stride * (level.shape[2] - 1),
        ]


def test_the_three_start_from_equal_weights_in_what_they_share() -> None:
    states = []
    for name in NAMES[:3]:
        torch.manual_seed(3)
        states.append(create_model(name, num_classes=4).state_dict())
    plain, scored, boundary = states
    assert all(plain[name].equal(scored[name]) for name in plain)
    assert {name.split(".")[0] for name in set(scored) - set(plain)} == {"scoring_head"}
    shared = [name for name in plain if not name.startswith("mask_head.")]
    assert all(plain[name].equal(boundary[name]) for name in shared)


@pytest.mark.parametrize("name", NAMES)
class TestTiny:
    def test_losses_have_names_and_reach_every_parameter(
        self, name: str, make_targets: MakeTargets
    ) -> None:
        model = tiny(name).train()
        boxes = [(0, 0, 30, 30), (20, 10, 80, 96), (90, 90, 96, 96), (50, 60, 51, 61)]
        targets = [
            make_targets((96, 96), boxes, [0, 1, 2, 0]),
            make_targets((96, 96), [(0, 0, 96, 96)]),
        ]
        generator = torch.Generator().manual_seed(0)
        images = list(torch.randint(256, (2, 3, 96, 96), generator=generator, dtype=torch.uint8))
        losses = model(images, targets)
        assert set(losses) == {f"loss_{part}" for part in LOSSES[name]}
        assert all(value.isfinite() and value > 0 for value in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_images_without_objects(self, name: str, make_targets: MakeTargets) -> None:
        model = tiny(name).train()
        images = [torch.zeros(3, 96, 96, dtype=torch.uint8)] * 2
        losses = model(images, [make_targets((96, 96), [])] * 2)
        assert losses["loss_mask"] == losses["loss_box"] == 0
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_instances_are_ranked_in_the_images_pixels(self, name: str, picture: Picture) -> None:
        sizes = [(96, 96), (40, 200), (33, 31), (75, 120)]
        for found, (height, width) in zip(
            tiny(name).predict([picture(*s) for s in sizes]), sizes, strict=True
        ):
            assert len(found) == 15
            assert found.masks.shape == (15, height, width)
            assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
            assert (found.boxes >= 0).all()
            assert (found.boxes <= torch.tensor([width, height] * 2)).all()
            assert found.class_names == ("a", "b", "c")
            assert found.boundary_scores is None
            if name not in SCORED:
                assert found.iou_scores is None
                assert found.scores.equal(found.class_scores)
                continue
            assert found.iou_scores is not None
            assert ((found.iou_scores >= 0) & (found.iou_scores <= 1)).all()
            torch.testing.assert_close(found.scores, found.class_scores * found.iou_scores)

    def test_a_batch_gives_what_single_images_give(self, name: str, picture: Picture) -> None:
        model = tiny(name)
        images = [picture(96, 96, seed) for seed in range(3)]
        for image, found in zip(images, model.predict(images), strict=True):
            (alone,) = model.predict([image])
            distance = torch.cdist(found.boxes, alone.boxes, p=torch.inf)
            distance += (found.scores[:, None] - alone.scores).abs()  # of equal boxes
            distance[found.labels[:, None] != alone.labels] = torch.inf
            alone = alone[distance.argmin(1)]
            torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-3, atol=1e-2)
            torch.testing.assert_close(found.scores, alone.scores, rtol=1e-3, atol=1e-4)
            assert (found.masks == alone.masks).float().mean() > 0.99

    def test_nothing_found(self, name: str, picture: Picture) -> None:
        model = tiny(name)
        model.detector.score_threshold = 1.0
        (found,) = model.predict([picture(75, 120)])
        assert found.masks.shape == (0, 75, 120)

    def test_saved_and_made_faster_it_finds_the_same(
        self, name: str, picture: Picture, tmp_path: Path
    ) -> None:
        model = tiny(name)
        model.optimised = False
        save_model(model, tmp_path / "m.safetensors", category_ids=(1, 5, 7))
        (expected,) = model.predict([picture()])
        loaded = load_model(tmp_path / "m.safetensors")
        loaded.detector.score_threshold = 0.0
        loaded.max_detections = 15
        (found,) = loaded.predict([picture()])
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
        loaded.optimised = False
        (found,) = loaded.predict([picture()])
        assert found.masks.equal(expected.masks)


def test_results_of_the_public_interface(picture: Picture) -> None:
    torch.manual_seed(0)
    model = b2inst.create_model("ms-rcnn-tiny", num_classes=2).eval()
    assert isinstance(model, b2inst.Segmenter)
    model.detector.score_threshold = 0.0
    (result,) = model.predict([picture()])
    assert isinstance(result, b2inst.Result)
    for call in (lambda: with_bases(model), lambda: model.explain(picture())):
        with pytest.raises(ModelError, match="ms-rcnn-tiny has no bases to show; choose"):
            call()


def test_no_prediction_in_training_mode(picture: Picture) -> None:
    with pytest.raises(RuntimeError, match=r"call model\.eval\(\)"):
        tiny("maskrcnn-tiny").train().predict([picture()])
