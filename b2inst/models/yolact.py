"""YOLACT (Bolya et al., ICCV 2019), and B2Inst on top of it, put together from parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from b2inst.models.b2inst import with_boundary
from b2inst.models.refine import refinement
from b2inst.models.seeding import PartSeeds
from b2inst.models.segmenter import BasisSegmenter
from b2inst.modules.basis_predictor import BasisPredictor
from b2inst.modules.class_map_head import ClassMapHead
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.mobilenet_fpn import MobileNetFPN
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.prior_box_head import PriorBoxHead
from b2inst.modules.prototype_head import PrototypeHead
from b2inst.modules.scoring_head import ScoringHead
from b2inst.modules.square_preprocessor import SquarePreprocessor
from b2inst.modules.tiny_fpn import TinyFPN
from b2inst.modules.yolact_fpn import YolactFPN
from b2inst.ops.fast_nms import cross_class_fast_nms, fast_nms

#: Pixel statistics of the published weights, RGB on the 0..255 scale.
PIXELS: dict[str, Any] = {"mean": (123.68, 116.78, 103.94), "std": (58.40, 57.12, 57.38)}


def yolact(
    *,
    backbone: str = "resnet50",
    num_classes: int = 80,
    num_bases: int = 32,
    size: int = 550,
    boundary: Mapping[str, Any] | None = None,
    scoring: Sequence[str] = (),
    refine: Mapping[str, Mapping[str, Any]] | None = None,
    backbone_weights: str | None = None,
    frozen_norm: bool | None = None,
    max_masks: int = 100,
    cross_class_nms: bool = False,
) -> BasisSegmenter:
    """YOLACT on a ResNet; with ``boundary`` and ``scoring`` it is B2Inst-YOLACT.

    Args:
        backbone: resnet18, resnet34, resnet50 or resnet101.
        num_bases: K, the prototypes without the boundary basis.
        size: side in pixels of the square that every image is squeezed to; 550 or 700 as
            published.
        boundary: options of the supervised boundary (``with_boundary``); None leaves it out.
        scoring: branches of the scoring head, of "iou" and "boundary"; empty leaves it out.
        refine: of mask logits, what follows the assembly (``refinement``); None leaves them.
        backbone_weights: "imagenet" (fetched by torchvision) or None, from scratch.
        frozen_norm: fixed batch norm in the backbone; by default with weights to start from. YOLACT
            fixes it where a device has fewer than six images.
        max_masks: of an image, masks that are trained at most.
        cross_class_nms: suppress between classes too, which is faster.
    """
    frozen = backbone_weights is not None if frozen_norm is None else frozen_norm
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = YolactFPN(resnet=backbone, frozen_norm=frozen)
    if backbone_weights is not None:
        load_imagenet(pyramid.body, backbone, backbone_weights)
    width = pyramid.out_channels
    with seeds.of("basis_head"):
        prototypes = PrototypeHead(
            in_channels=width,
            num_bases=num_bases,
            cell=size / (2 * -(-size // 8)),
            auxiliary=ClassMapHead(in_channels=width, num_classes=num_classes),
        )
    with seeds.of("scoring_head"):
        scorer = (
            ScoringHead(
                in_channels=width,
                branches=scoring,
                pooled_channels=24,
                channels=24,
                hidden=256,
            )
            if scoring
            else None
        )
    return _assemble(
        seeds=seeds,
        preprocessor=SquarePreprocessor(**PIXELS, side=size),
        backbone=pyramid,
        prototypes=prototypes,
        boundary=boundary,
        refine=refine,
        scoring_head=scorer,
        max_masks=max_masks,
        boundary_defaults={"branch_channels": 16, "pyramid_strides": (8, 16, 32)},
        head={
            "in_channels": width,
            "num_classes": num_classes,
            "side": size,
            # As published for 700 pixels, too: in proportion, and cut to whole pixels.
            "scales": tuple(scale * size // 550 for scale in (24, 48, 96, 192, 384)),
            "nms": cross_class_fast_nms if cross_class_nms else fast_nms,
        },
    )


def yolact_tiny(
    *,
    num_classes: int = 8,
    num_bases: int = 16,
    size: int = 96,
    boundary: Mapping[str, Any] | None = None,
    scoring: Sequence[str] = (),
    refine: Mapping[str, Mapping[str, Any]] | None = None,
    prototype_channels: int = 24,
    keep_size: bool = False,
    head_strides: Sequence[int] = (8, 16, 32),
    prior_sizes: Sequence[float] | None = None,
    make_backbone: Callable[[], TinyFPN | MobileNetFPN] = TinyFPN,
    pixels: Mapping[str, Any] = PIXELS,
) -> BasisSegmenter:
    """The same parts, narrow, on a backbone that learns from scratch on a CPU.

    Differences from ``yolact``: the backbone of ``blendmask_tiny``, prototypes at stride 2, three
    levels of prior boxes, norms after the convolutions of prototypes and head, coefficients that
    begin near 0, no auxiliary semantic loss. ``size`` is a multiple of 32.

    Args:
        size: side in pixels of the square that every image is squeezed to, unless ``keep_size``.
        keep_size: see images at their own size, padded.
        head_strides: features that instances are found on, of strides 4, 8, 16 and 32.
        prior_sizes: sides in pixels of the prior boxes of each of these (default: 20, 36 and 64
            for images of 96 pixels, in proportion for others).
        make_backbone: builds features at strides 4, 8, 16 and 32.
        pixels: statistics that the backbone wants images normalised by, ``mean`` and ``std``.
    """
    seeds = PartSeeds()
    with seeds.of("backbone"):
        pyramid = make_backbone()
    width = pyramid.out_channels
    with seeds.of("basis_head"):
        prototypes = PrototypeHead(
            in_channels=width,
            num_bases=num_bases,
            stride=4,
            channels=prototype_channels,
            num_convs=2,
            norm=nn.BatchNorm2d,
        )
    with seeds.of("scoring_head"):
        scorer = (
            ScoringHead(in_channels=width, branches=scoring, strides=(4,), channels=32, hidden=64)
            if scoring
            else None
        )
    return _assemble(
        seeds=seeds,
        preprocessor=Preprocessor(**pixels, shorter=None, longer_max=None)
        if keep_size
        else SquarePreprocessor(**pixels, side=size),
        backbone=pyramid,
        prototypes=prototypes,
        boundary=boundary,
        refine=refine,
        scoring_head=scorer,
        max_masks=100,
        boundary_defaults={"branch_channels": 16, "pyramid_strides": (4, 8, 16, 32)},
        head={
            "in_channels": width,
            "num_classes": num_classes,
            "side": size,
            "square": not keep_size,
            "strides": tuple(head_strides),
            "scales": prior_sizes or tuple(scale * size / 96 for scale in (20, 36, 64)),
            "norm": partial(nn.GroupNorm, width // 4),
            "coefficient_gain": 0.1,
        },
    )


def _assemble(
    *,
    seeds: PartSeeds,
    preprocessor: SquarePreprocessor | Preprocessor,
    backbone: nn.Module,
    prototypes: PrototypeHead,
    boundary: Mapping[str, Any] | None,
    refine: Mapping[str, Mapping[str, Any]] | None,
    scoring_head: ScoringHead | None,
    max_masks: int,
    boundary_defaults: Mapping[str, Any],
    head: Mapping[str, Any],
) -> BasisSegmenter:
    bases: BasisPredictor = prototypes
    if boundary is not None:
        options = {"branch_convs": len(prototypes.convs), **boundary_defaults, **boundary}
        if not options["branch_channels"]:
            raise ValueError(
                "boundary: branch_channels 0 would make a prototype the boundary, and prototypes "
                "are never negative; give the boundary a branch of its own"
            )
        with seeds.of("boundary"):
            bases = with_boundary(prototypes, in_channels=head["in_channels"], **options)
    with seeds.of("refinement"):
        assembler = LinearAssembler(
            num_bases=bases.num_bases, max_masks=max_masks, refinement=refinement(refine or {})
        )
    with seeds.of("instance_head"):
        instance_head = PriorBoxHead(num_coefficients=assembler.num_coefficients, **head)
    return BasisSegmenter(
        preprocessor=preprocessor,
        backbone=backbone,
        instance_head=instance_head,
        basis_head=bases,
        assembler=assembler,
        scoring_head=scoring_head,
    )
