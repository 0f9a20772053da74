"""Mask R-CNN (He et al., ICCV 2017) and what was made of it, put together from parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from b2inst.models.blendmask import IMAGENET_RGB, MSRA_BGR
from b2inst.models.seeding import PartSeeds
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.boundary_preserving_head import BoundaryPreservingHead
from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.mask_iou_head import MaskIoUHead
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.rcnn_fpn import RCNNFPN
from b2inst.modules.roi_mask_head import RoIMaskHead
from b2inst.modules.roi_pooler import RoIPooler
from b2inst.modules.tiny_fpn import TinyFPN

#: Of a mask head, by ``RoIMaskHead``'s arguments.
MakeHead = Callable[..., RoIMaskHead | BoundaryPreservingHead]


def mask_rcnn(
    *,
    backbone: str = "resnet50",
    num_classes: int = 80,
    make_mask_head: MakeHead = RoIMaskHead,
    scoring: bool = False,
    refined_samples: bool = False,
    backbone_weights: str | None = None,
    frozen_norm: bool | None = None,
    msra: bool = False,
    shorter: int | None = 800,
    longer_max: int | None = 1333,
) -> TwoStageSegmenter:
    """Mask R-CNN on a ResNet; with ``scoring`` it is Mask Scoring R-CNN.

    Args:
        backbone: resnet18, resnet34, resnet50 or resnet101.
        make_mask_head: ``BoundaryPreservingHead`` makes it BMask R-CNN.
        scoring: predict the IoU of masks and rank by it too.
        refined_samples: as of ``FasterRCNN``.
        backbone_weights: "imagenet" (fetched by torchvision) or None, from scratch.
        frozen_norm: fixed batch norm in the backbone; by default as the weights want it.
        msra: the arrangement of detectron2's MSRA weights: BGR input, stride in the 1×1.
        shorter, longer_max: size at which ``predict`` looks at images; None for their own.
    """
    frozen = backbone_weights is not None if frozen_norm is None else frozen_norm
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = RCNNFPN(resnet=backbone, frozen_norm=frozen, stride_in_1x1=msra)
    if backbone_weights is not None:
        load_imagenet(pyramid.body, backbone, backbone_weights)
    return _assemble(
        seeds=seeds,
        preprocessor=Preprocessor(
            **(MSRA_BGR if msra else IMAGENET_RGB),
            size_divisor=64,  # P6 then has cells of exactly its stride, which anchors go by
            shorter=shorter,
            longer_max=longer_max,
        ),
        backbone=pyramid,
        num_classes=num_classes,
        make_mask_head=make_mask_head,
        make_scoring_head=MaskIoUHead if scoring else None,
        make_box_head=lambda inputs: TwoMLPHead(inputs, 1024),
        pooler=partial(RoIPooler, strides=pyramid.strides[:-1]),
        detector={
            "hidden": 1024,
            "strides": pyramid.strides,
            "anchor_sizes": (32, 64, 128, 256, 512),
            "refined_samples": refined_samples,
        },
    )


def mask_rcnn_tiny(
    *,
    num_classes: int = 8,
    make_mask_head: MakeHead = RoIMaskHead,
    scoring: bool = False,
    refined_samples: bool = False,
    shorter: int | None = 96,
    longer_max: int | None = 160,
) -> TwoStageSegmenter:
    """The same parts, narrow, on a backbone that learns from scratch on a CPU.

    Differences from ``mask_rcnn``: small anchors, fewer proposals and samples, one point in a bin
    when pooling, normalised heads, which take a large learning rate.
    """
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = TinyFPN()
    strides = (4, 8, 16, 32)
    norm = partial(nn.GroupNorm, 8)
    return _assemble(
        seeds=seeds,
        preprocessor=Preprocessor(**IMAGENET_RGB, shorter=shorter, longer_max=longer_max),
        backbone=pyramid,
        num_classes=num_classes,
        make_mask_head=partial(make_mask_head, channels=32, norm=norm),
        make_scoring_head=partial(
            MaskIoUHead, channels=32, hidden=64, norm=norm, norm_hidden=nn.LayerNorm
        )
        if scoring
        else None,
        make_box_head=lambda inputs: _normalised_mlp(inputs, 64),
        pooler=partial(RoIPooler, strides=strides, samples=1),
        detector={
            "hidden": 64,
            "strides": strides,
            "anchor_sizes": (8, 16, 32, 64),
            "train_proposals": (200, 100),
            "test_proposals": (200, 100),
            "samples": 48,
            "refined_samples": refined_samples,
        },
    )


def _assemble(
    *,
    seeds: PartSeeds,
    preprocessor: Preprocessor,
    backbone: RCNNFPN | TinyFPN,
    num_classes: int,
    make_mask_head: MakeHead,
    make_scoring_head: Callable[..., MaskIoUHead] | None,
    make_box_head: Callable[[int], nn.Module],
    pooler: Callable[..., RoIPooler],
    detector: dict[str, Any],
) -> TwoStageSegmenter:
    width = backbone.out_channels
    with seeds.of("detector"):
        boxes = FasterRCNN(
            in_channels=width,
            num_classes=num_classes,
            box_pooler=pooler(size=7),
            box_head=make_box_head(width * 7 * 7),
            **detector,
        )
    with seeds.of("mask_head"):
        masks = make_mask_head(in_channels=width, num_classes=num_classes, pooler=pooler(size=14))
    with seeds.of("scoring_head"):
        scorer = (
            None
            if make_scoring_head is None
            else make_scoring_head(in_channels=width, num_classes=num_classes)
        )
    return TwoStageSegmenter(
        preprocessor=preprocessor,
        backbone=backbone,
        detector=boxes,
        mask_head=masks,
        scoring_head=scorer,
    )


def _normalised_mlp(inputs: int, hidden: int) -> nn.Module:
    """``TwoMLPHead`` with layer norms."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
    )
