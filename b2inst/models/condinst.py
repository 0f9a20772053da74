"""CondInst (Tian et al., ECCV 2020), and B2Inst on top of it, put together from parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from b2inst.models.b2inst import with_boundary
from b2inst.models.blendmask import IMAGENET_RGB, MSRA_BGR
from b2inst.models.refine import refinement
from b2inst.models.seeding import PartSeeds
from b2inst.models.segmenter import BasisSegmenter
from b2inst.modules.boundary_basis import BoundarySupervision
from b2inst.modules.condinst_head import CondInstHead
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.fcos_targets import sizes_of_interest
from b2inst.modules.focal_semantic_head import FocalSemanticHead
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.mask_branch import MaskBranch
from b2inst.modules.mobilenet_fpn import MobileNetFPN
from b2inst.modules.positive_sampling import at_random, best_of_objects
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.resnet_fpn import ResNetFPN
from b2inst.modules.scoring_head import ScoringHead
from b2inst.modules.tiny_fpn import TinyFPN


def condinst(
    *,
    backbone: str = "resnet50",
    num_classes: int = 80,
    num_bases: int = 8,
    boundary: Mapping[str, Any] | None = None,
    scoring: Sequence[str] = (),
    refine: Mapping[str, Mapping[str, Any]] | None = None,
    semantic: bool = False,
    best_per_image: int | None = None,
    backbone_weights: str | None = None,
    frozen_norm: bool | None = None,
    msra: bool = False,
    shorter: int | None = 800,
    longer_max: int | None = 1333,
) -> BasisSegmenter:
    """CondInst on a ResNet; with ``boundary`` and ``scoring`` it is B2Inst-CondInst.

    Args:
        backbone: resnet18, resnet34, resnet50 or resnet101.
        num_bases: K without the boundary basis.
        boundary: options of the supervised boundary (``with_boundary``); None leaves it out.
        scoring: branches of the scoring head, of "iou" and "boundary"; empty leaves it out.
        refine: of mask logits, what follows the assembly (``refinement``); None leaves them.
        semantic: train a semantic segmentation beside the bases, as published ``_sem`` models do.
        best_per_image: masks to train in an image, of its best predicted positives; by default
            all, or of an image that has more 250 drawn at random.
        backbone_weights: "imagenet" (fetched by torchvision) or None, from scratch.
        frozen_norm: fixed batch norm in the backbone; by default as the weights want it.
        msra: the arrangement of detectron2's MSRA weights: BGR input, stride in the 1×1.
        shorter, longer_max: size at which ``predict`` looks at images; None for their own.
    """
    frozen = backbone_weights is not None if frozen_norm is None else frozen_norm
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = ResNetFPN(resnet=backbone, frozen_norm=frozen, stride_in_1x1=msra)
    if backbone_weights is not None:
        load_imagenet(pyramid.body, backbone, backbone_weights)
    width = pyramid.out_channels
    shared = boundary is not None and boundary.get("branch_channels") == 0
    with seeds.of("basis_head"):
        auxiliary = FocalSemanticHead(in_channels=width, num_classes=num_classes)
        mask_branch = MaskBranch(
            in_channels=width,
            num_bases=num_bases + shared,
            auxiliary=auxiliary if semantic else None,
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
        mask_branch=mask_branch,
        boundary=boundary,
        refine=refine,
        scoring_head=scorer,
        best_per_image=best_per_image,
        boundary_defaults={"branch_channels": 32, "pyramid_strides": (8, 16, 32)},
        head={
            "in_channels": width,
            "num_classes": num_classes,
            "strides": pyramid.strides,
            "sizes_of_interest": ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8)),
        },
    )


def condinst_tiny(
    *,
    num_classes: int = 8,
    num_bases: int = 8,
    boundary: Mapping[str, Any] | None = None,
    scoring: Sequence[str] = (),
    refine: Mapping[str, Mapping[str, Any]] | None = None,
    best_per_image: int | None = None,
    shorter: int | None = 96,
    longer_max: int | None = 160,
    basis_channels: int = 24,
    head_strides: Sequence[int] = (8, 16, 32),
    make_backbone: Callable[[], TinyFPN | MobileNetFPN] = TinyFPN,
) -> BasisSegmenter:
    """The same parts, narrow, on a backbone that learns from scratch on a CPU.

    Differences from ``condinst``: bases at stride 4 and masks at stride 2, three levels,
    two-convolution towers, batch norm trained everywhere.

    Args:
        head_strides: features that instances are found on, of strides 4, 8, 16 and 32.
        make_backbone: builds features at strides 4, 8, 16 and 32.
    """
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = make_backbone()
    width = pyramid.out_channels
    shared = boundary is not None and boundary.get("branch_channels") == 0
    with seeds.of("basis_head"):
        mask_branch = MaskBranch(
            in_channels=width,
            num_bases=num_bases + shared,
            strides=(4,),
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
        mask_branch=mask_branch,
        boundary=boundary,
        refine=refine,
        scoring_head=scorer,
        best_per_image=best_per_image,
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
    mask_branch: MaskBranch,
    boundary: Mapping[str, Any] | None,
    refine: Mapping[str, Mapping[str, Any]] | None,
    scoring_head: ScoringHead | None,
    best_per_image: int | None,
    boundary_defaults: Mapping[str, Any],
    head: Mapping[str, Any],
) -> BasisSegmenter:
    bases: MaskBranch | BoundarySupervision = mask_branch
    if boundary is not None:
        options = {"branch_convs": len(mask_branch.convs), **boundary_defaults, **boundary}
        with seeds.of("boundary"):
            bases = with_boundary(
                mask_branch, in_channels=head["in_channels"], make_branch=MaskBranch, **options
            )
    sample = (
        at_random if best_per_image is None else partial(best_of_objects, per_image=best_per_image)
    )
    with seeds.of("refinement"):
        assembler = DynamicMaskHead(
            num_bases=bases.num_bases, sample=sample, refinement=refinement(refine or {})
        )
    with seeds.of("instance_head"):
        instance_head = CondInstHead(num_coefficients=assembler.num_coefficients, **head)
    return BasisSegmenter(
        preprocessor=preprocessor,
        backbone=backbone,
        instance_head=instance_head,
        basis_head=bases,
        assembler=assembler,
        scoring_head=scoring_head,
    )
