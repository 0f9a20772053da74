"""What the families of models share: options, backbones, and the parts that B2Inst adds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.segmenter import Segmenter
from b2inst.modules.basis_predictor import BasisPredictor
from b2inst.modules.boundary_basis import BoundaryBasis, BoundarySupervision
from b2inst.modules.boundary_diffusion import BoundaryDiffusion
from b2inst.modules.boundary_loss import HolisticBoundaryLoss, RoIBoundaryLoss
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.mobilenet_fpn import MobileNetFPN
from b2inst.modules.oracle_boundary import OracleBoundary
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.refinement import ConvRefinement, InTurn
from b2inst.modules.scoring_head import ScoringHead
from b2inst.modules.tiny_fpn import TinyFPN

#: Pixel statistics on the 0..255 scale: torchvision's weights (RGB) and MSRA's (BGR).
IMAGENET_RGB: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
MSRA_BGR: dict[str, Any] = {"mean": (103.53, 116.28, 123.675), "std": (1.0, 1.0, 1.0), "bgr": True}


class PartSeeds:
    """Seeds of a model's parts, by name.

    Models built from the same ``torch.manual_seed`` start from equal weights in every part they
    share, so that rows of a table differ in what they add and not by chance. One number is drawn
    from the global generator, so that models built one after the other differ.
    """

    def __init__(self) -> None:
        self.base = int(torch.randint(2**62, (), device="cpu").item())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Build a part in this context; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.base + zlib.crc32(name.encode()))
            yield


@dataclass(frozen=True, kw_only=True)
class Family:
    """Builds the models of a family; its fields are their options.

    Args:
        backbone: "resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2" or "tiny".
        backbone_weights: "imagenet" (downloaded by torchvision) or None, random.
        frozen_norm: batch norm with fixed statistics in the backbone (default: with weights).
    """

    backbone: str = "resnet50"
    backbone_weights: str | None = None
    frozen_norm: bool | None = None

    def build(self, num_classes: int) -> Segmenter:
        """A model with fresh weights."""
        raise NotImplementedError

    def _build_backbone(
        self, seeds: PartSeeds, resnet_fpn: Callable[..., Any], **resnet_options: Any
    ) -> Any:
        """The backbone with its pyramid.

        Args:
            resnet_fpn: the family's pyramid on a ResNet.
            resnet_options: further arguments of it; False or None for its defaults.

        Raises:
            ValueError: an option that the backbone does not have.
            BackboneWeightsError: the weights cannot be had.
        """
        name, weights = self.backbone, self.backbone_weights
        options = {key: value for key, value in resnet_options.items() if value}
        frozen = weights is not None if self.frozen_norm is None else self.frozen_norm
        unknown = [] if name.startswith("resnet") else list(options)
        if name == "tiny" and frozen:
            unknown.append("frozen_norm" if weights is None else "backbone_weights")
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not with the backbone {name!r}")
        with seeds.part("backbone"):
            if name == "tiny":
                return TinyFPN()
            if name == "mobilenet_v2":
                return MobileNetFPN(weights=weights, frozen_norm=frozen)
            pyramid = resnet_fpn(resnet=name, frozen_norm=frozen, **options)
        if weights is not None:
            load_imagenet(pyramid.body, name, weights)
        return pyramid


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes of parts that are no options.

    Args:
        basis_strides: levels of the pyramid that bases are computed from.
        auxiliary: train a semantic segmentation beside the bases.
        object_size: largest distance, in strides, from a position to a side of its box for which
            the position's level is trained.
        boundary: default options of ``add_boundary``.
        scoring: arguments of ``ScoringHead``.
    """

    basis_strides: tuple[int, ...] = (8, 16, 32)
    auxiliary: bool = True
    object_size: int = 8
    boundary: Mapping[str, Any]
    scoring: Mapping[str, Any]


#: Models on a ResNet.
FULL = Preset(
    boundary={"branch_channels": 32, "pyramid_strides": (8, 16, 32)},
    scoring={"pooled_channels": 64, "channels": 64, "hidden": 256},
)

#: Narrow models on a small backbone, with bases of finer levels and no auxiliary loss.
SMALL = Preset(
    basis_strides=(4,),
    auxiliary=False,
    object_size=4,
    boundary={"branch_channels": 16, "pyramid_strides": (4, 8, 16, 32)},
    scoring={"strides": (4,), "channels": 32, "hidden": 64},
)


@dataclass(frozen=True, kw_only=True)
class BasisFamily(Family):
    """A family whose masks are composed of bases, which B2Inst can join.

    Args:
        num_bases: K without the boundary basis.
        boundary: options of the supervised boundary (``add_boundary``); None leaves it out.
        scoring: branches of the scoring head, "iou" and "boundary"; empty leaves it out.
        refine: refinements of mask logits in order, by name: options of "diffusion"
            (``BoundaryDiffusion``) and "convs" (``ConvRefinement``).
    """

    num_bases: int
    boundary: Mapping[str, Any] | None = None
    scoring: Sequence[str] = ()
    refine: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def preset(self) -> Preset:
        """Sizes of the parts that are no options."""
        return FULL if self.backbone.startswith("resnet") else SMALL

    def _build_segmenter(
        self,
        seeds: PartSeeds,
        *,
        preprocessor: Preprocessor,
        backbone: Any,
        basis_head: Callable[..., Any],
        branch: Callable[..., BasisPredictor],
        assembler: Callable[..., Any],
        instance_head: Callable[..., Any],
        oracle: OracleBoundary | None = None,
    ) -> BasisSegmenter:
        """The family's parts and those that B2Inst adds.

        Args:
            basis_head: builds the basis head from ``num_bases``.
            branch: builds the boundary's branch, on the grid of the bases, from arguments of
                ``BasisHead``.
            assembler: builds the assembler from ``num_bases`` and ``refinement``.
            instance_head: builds the instance head from ``num_coefficients``.
            oracle: of ``BasisSegmenter``.

        Raises:
            ValueError: options that exclude each other, or an unknown refinement.
        """
        shares_head = self.boundary is not None and self.boundary.get("branch_channels") == 0
        with seeds.part("basis_head"):
            bases = basis_head(num_bases=self.num_bases + shares_head)
        if self.boundary is not None:
            if oracle is not None:
                raise ValueError("boundary and oracle: one is predicted, one true; give one")
            options = {"branch_convs": len(bases.convs), **self.preset.boundary, **self.boundary}
            with seeds.part("boundary"):
                bases = add_boundary(bases, branch, in_channels=backbone.out_channels, **options)
        with seeds.part("refinement"):
            masks = assembler(
                num_bases=bases.num_bases + (oracle is not None and oracle.as_basis),
                refinement=_refinement(self.refine or {}),
            )
        scoring_head = None
        if self.scoring:
            with seeds.part("scoring_head"):
                scoring_head = ScoringHead(
                    in_channels=backbone.out_channels, branches=self.scoring, **self.preset.scoring
                )
        with seeds.part("instance_head"):
            head = instance_head(num_coefficients=masks.num_coefficients)
        return BasisSegmenter(
            preprocessor=preprocessor,
            backbone=backbone,
            instance_head=head,
            basis_head=bases,
            assembler=masks,
            scoring_head=scoring_head,
            oracle=oracle,
        )


def add_boundary(
    basis_head: BasisPredictor,
    make_branch: Callable[..., BasisPredictor],
    *,
    in_channels: int,
    branch_channels: int,
    branch_convs: int,
    pyramid_strides: Sequence[int],
    fused: bool = False,
    local: bool = False,
    as_basis: bool = True,
    detach: bool = True,
    **losses: Any,
) -> BoundarySupervision:
    """Add a supervised boundary to a basis head (paper §4.1).

    The defaults are design (e) of Table 2, the holistic boundary basis. The others: (a) ``local``
    and not ``as_basis``; (b) ``fused`` and not ``as_basis``; (c) ``fused``; (d) not ``as_basis``.

    Args:
        basis_head: the baseline's.
        make_branch: builds a branch from arguments of ``BasisHead``.
        in_channels: channels of the features.
        branch_channels: width of the boundary's own branch; 0 shares the basis head, whose last
            map is then the boundary.
        branch_convs: number of convolutions of that branch.
        pyramid_strides: levels that a fused branch reads, finest first; a single one reads that.
        fused: the branch reads several levels of the pyramid, summed, instead of the finest.
        local: the loss compares each instance's box with its own boundary, not the whole image.
        as_basis: the boundary joins the bases that masks are composed of.
        detach: the mask loss does not train the boundary through its use as a basis.
        losses: arguments of the losses in ``b2inst.modules.boundary_loss``.

    Raises:
        ValueError: ``fused`` without a branch.
    """
    branch = None
    if branch_channels:
        branch = make_branch(
            in_channels=in_channels,
            num_bases=1,
            strides=pyramid_strides if fused else pyramid_strides[:1],
            channels=branch_channels,
            num_convs=branch_convs,
        )
    elif fused:
        raise ValueError("fused needs a branch of the boundary's own: give branch_channels")
    criterion = (RoIBoundaryLoss if local else HolisticBoundaryLoss)(**losses)
    if as_basis:
        return BoundaryBasis(
            basis_head=basis_head, branch=branch, criterion=criterion, detach=detach
        )
    return BoundarySupervision(basis_head=basis_head, branch=branch, criterion=criterion)


def _refinement(options: Mapping[str, Mapping[str, Any]]) -> InTurn | None:
    known = {"diffusion": BoundaryDiffusion, "convs": ConvRefinement}
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"refine {unknown}: choose from {list(known)}")
    return InTurn([known[name](**given) for name, given in options.items()]) if options else None
