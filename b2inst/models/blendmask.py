"""BlendMask (Chen et al., CVPR 2020), and B2Inst on top of it, put together from parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from b2inst.models.b2inst import with_boundary
from b2inst.models.oracle import OracleSegmenter
from b2inst.models.refine import refinement
from b2inst.models.seeding import PartSeeds
from b2inst.models.segmenter import BasisSegmenter
from b2inst.modules.basis_head import BasisHead, SemanticHead
from b2inst.modules.blender import Blender
from b2inst.modules.boundary_basis import BoundarySupervision
from b2inst.modules.fcos_head import FCOSHead
from b2inst.modules.fcos_targets import sizes_of_interest
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.mobilenet_fpn import MobileNetFPN
from b2inst.modules.oracle_boundary import OracleBoundary
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.resnet_fpn import ResNetFPN
from b2inst.modules.scoring_head import ScoringHead
from b2inst.modules.tiny_fpn import TinyFPN

#: Pixel statistics on the 0..255 scale: torchvision's weights (RGB) and MSRA's (BGR).
IMAGENET_RGB: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
MSRA_BGR: dict[str, Any] = {"mean": (103.53, 116.28, 123.675), "std": (1.0, 1.0, 1.0), "bgr": True}


def blendmask(
    *,
    backbone: str = "resnet50",
    num_classes: int = 80,
    num_bases: int = 4,
    attention_size: int = 7,
    boundary: Mapping[str, Any] | None = None,
    scoring: Sequence[str] = (),
    refine: Mapping[str, Mapping[str, Any]] | None = None,
    oracle: Mapping[str, Any] | None = None,
    backbone_weights: str | None = None,
    frozen_norm: bool | None = None,
    msra: bool = False,
    top_levels: int = 2,
    shared_convs: int = 0,
    tower_convs: int = 4,
    basis_convs: int = 3,
    shorter: int | None = 800,
    longer_max: int | None = 1333,
) -> BasisSegmenter:
    """BlendMask on a ResNet; with ``boundary`` and ``scoring`` it is B2Inst-BlendMask.

    Args:
        backbone: resnet18, resnet34, resnet50 or resnet101.
        num_bases: K without the boundary basis.
        attention_size: A; 7 in the paper, 14 as AdelaiDet ships BlendMask.
        boundary: options of the supervised boundary (``with_boundary``); None leaves it out.
        scoring: branches of the scoring head, of "iou" and "boundary"; empty leaves it out.
        refine: of mask logits, what follows the assembly (``refinement``); None leaves them.
        oracle: options of ``OracleBoundary``, the true boundary instead of a predicted one, for
            experiments; None for a model that stands alone.
        backbone_weights: "imagenet" (fetched by torchvision) or None, from scratch.
        frozen_norm: fixed batch norm in the backbone; by default as the weights want it.
        msra: the arrangement of detectron2's MSRA weights: BGR input, stride in the 1×1.
        top_levels: of the pyramid above P5: 2, or 1 to leave out P7.
        shared_convs, tower_convs: of the instance head, in the tower that both towers build on,
            and in each of them.
        basis_convs: of the basis head, before its upsampling.
        shorter, longer_max: size at which ``predict`` looks at images; None for their own.
    """
    frozen = backbone_weights is not None if frozen_norm is None else frozen_norm
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = ResNetFPN(
            resnet=backbone, frozen_norm=frozen, stride_in_1x1=msra, top_levels=top_levels
        )
    if backbone_weights is not None:
        load_imagenet(pyramid.body, backbone, backbone_weights)
    width = pyramid.out_channels
    bounds = (64, 128, 256, 512)[: len(pyramid.strides) - 1]  # between levels, in pixels
    shared = boundary is not None and boundary.get("branch_channels") == 0
    with seeds.of("basis_head"):
        basis_head = BasisHead(
            in_channels=width,
            num_bases=num_bases + shared,
            num_convs=basis_convs,
            auxiliary=SemanticHead(in_channels=width, num_classes=num_classes),
        )
    with seeds.of("scoring_head"):
        scorer = (
            ScoringHead(
                in_channels=width,
                branches=scoring,
                pooled_channels=64,
                channels=64,
                hidden=256,
            )
            if scoring
            else None
        )
    return _assemble(
        seeds=seeds,
        preprocessor=Preprocessor(
            **(MSRA_BGR if msra else IMAGENET_RGB), shorter=shorter, longer_max=longer_max
        ),
        backbone=pyramid,
        basis_head=basis_head,
        boundary=boundary,
        refine=refine,
        oracle=oracle,
        scoring_head=scorer,
        attention_size=attention_size,
        roi_size=56,
        boundary_defaults={"branch_channels": 32, "pyramid_strides": (8, 16, 32)},
        head={
            "in_channels": width,
            "num_classes": num_classes,
            "strides": pyramid.strides,
            "sizes_of_interest": tuple(zip((-1, *bounds), (*bounds, 1e8), strict=True)),
            "num_convs": tower_convs,
            "num_shared_convs": shared_convs,
        },
    )


def blendmask_tiny(
    *,
    num_classes: int = 8,
    num_bases: int = 4,
    attention_size: int = 7,
    boundary: Mapping[str, Any] | None = None,
    scoring: Sequence[str] = (),
    refine: Mapping[str, Mapping[str, Any]] | None = None,
    oracle: Mapping[str, Any] | None = None,
    shorter: int | None = 96,
    longer_max: int | None = 160,
    roi_size: int = 28,
    basis_channels: int = 24,
    basis_stride: int = 2,
    head_strides: Sequence[int] = (8, 16, 32),
    make_backbone: Callable[[], TinyFPN | MobileNetFPN] = TinyFPN,
) -> BasisSegmenter:
    """The same parts, narrow, on a backbone that learns from scratch on a CPU.

    Differences from ``blendmask``: bases at stride 2, three levels, two-convolution towers, no
    auxiliary semantic loss, batch norm trained everywhere.

    Args:
        basis_stride: of the grid of the bases, the boundary among them: 1, 2 or 4 pixels.
        head_strides: features that instances are found on, of strides 4, 8, 16 and 32.
        make_backbone: builds features at strides 4, 8, 16 and 32.
    """
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = make_backbone()
    width = pyramid.out_channels
    shared = boundary is not None and boundary.get("branch_channels") == 0
    with seeds.of("basis_head"):
        basis_head = BasisHead(
            in_channels=width,
            num_bases=num_bases + shared,
            strides=(4,),
            upsampling=4 // basis_stride,
            channels=basis_channels,
            num_convs=2,
        )
    with seeds.of("scoring_head"):
        scorer = (
            ScoringHead(in_channels=width, branches=scoring, strides=(4,), channels=32, hidden=64)
            if scoring
            else None
        )
    return _assemble(
        seeds=seeds,
        preprocessor=Preprocessor(**IMAGENET_RGB, shorter=shorter, longer_max=longer_max),
        backbone=pyramid,
        basis_head=basis_head,
        boundary=boundary,
        refine=refine,
        oracle=oracle,
        scoring_head=scorer,
        attention_size=attention_size,
        roi_size=roi_size,
        boundary_defaults={"branch_channels": 16, "pyramid_strides": (4, 8, 16, 32)},
        head={
            "in_channels": width,
            "num_classes": num_classes,
            "strides": tuple(head_strides),
            "sizes_of_interest": sizes_of_interest(head_strides),
            "num_convs": 2,
        },
    )


def _assemble(
    *,
    seeds: PartSeeds,
    preprocessor: Preprocessor,
    backbone: nn.Module,
    basis_head: BasisHead,
    boundary: Mapping[str, Any] | None,
    refine: Mapping[str, Mapping[str, Any]] | None,
    oracle: Mapping[str, Any] | None,
    scoring_head: ScoringHead | None,
    attention_size: int,
    roi_size: int,
    boundary_defaults: Mapping[str, Any],
    head: Mapping[str, Any],
) -> BasisSegmenter:
    if boundary is not None and oracle is not None:
        raise ValueError("boundary and oracle: one is predicted, one is shown; give one of them")
    bases: BasisHead | BoundarySupervision = basis_head
    if boundary is not None:
        options = {"branch_convs": len(basis_head.convs), **boundary_defaults, **boundary}
        with seeds.of("boundary"):
            bases = with_boundary(
                basis_head,
                in_channels=head["in_channels"],
                make_branch=partial(BasisHead, upsampling=basis_head.upsampling),
                **options,
            )
    shown = None if oracle is None else OracleBoundary(**oracle)
    with seeds.of("refinement"):
        blender = Blender(
            num_bases=bases.num_bases + (shown is not None and shown.as_basis),
            attention_size=attention_size,
            roi_size=roi_size,
            refinement=refinement(refine or {}),
        )
    with seeds.of("instance_head"):
        instance_head = FCOSHead(num_coefficients=blender.num_coefficients, **head)
    make = BasisSegmenter if shown is None else partial(OracleSegmenter, oracle=shown)
    return make(
        preprocessor=preprocessor,
        backbone=backbone,
        instance_head=instance_head,
        basis_head=bases,
        assembler=blender,
        scoring_head=scoring_head,
    )
