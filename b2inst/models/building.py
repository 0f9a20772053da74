"""What the families of models share: options, backbones, and the parts that B2Inst adds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.segmenter import Segmenter
from b2inst.modules.backbones import MobileNetFPN, TinyFPN
from b2inst.modules.boundary_basis import OracleBoundary, add_boundary
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.interfaces import BasisPredictor
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.refinement import BoundaryDiffusion, ConvRefinement, InTurn
from b2inst.modules.scoring_head import ScoringHead

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
        frozen_norm: Batch norm with fixed statistics in the backbone (default: with weights).
    """

    backbone: str = "resnet50"
    backbone_weights: str | None = None
    frozen_norm: bool | None = None

    def build(self, num_classes: int) -> Segmenter:
        """A model with fresh weights."""
        raise NotImplementedError

    def _build_backbone(self, resnet_fpn: Callable[..., Any], **resnet_options: Any) -> Any:
        """The backbone, with the family's pyramid on a ResNet; options of it may be False or None.

        Raises:
            ValueError: An option that the backbone does not have.
            BackboneWeightsError: The weights cannot be had.
        """
        name, weights = self.backbone, self.backbone_weights
        options = {option: value for option, value in resnet_options.items() if value}
        frozen = weights is not None if self.frozen_norm is None else self.frozen_norm
        unknown = [] if name.startswith("resnet") else list(options)
        if name == "tiny" and frozen:
            unknown.append("frozen_norm" if weights is None else "backbone_weights")
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not with the backbone {name!r}")
        if name == "tiny":
            return TinyFPN()
        if name == "mobilenet_v2":
            return MobileNetFPN(weights=weights, frozen_norm=frozen)
        pyramid = resnet_fpn(resnet=name, frozen_norm=frozen, **options)
        if weights is not None:
            load_imagenet(pyramid.body, name, weights)
        return pyramid


@dataclass(frozen=True, kw_only=True)
class ResizingFamily(Family):
    """A family that keeps the shape of images.

    Args:
        msra: The layout of detectron2's MSRA weights: BGR input, stride in the 1×1 convolutions.
        shorter, longer_max: Test size of images in pixels; None keeps their own.
    """

    msra: bool = False
    shorter: int | None = 800
    longer_max: int | None = 1333

    def _preprocessor(self, **options: Any) -> Preprocessor:
        pixels = MSRA_BGR if self.msra else IMAGENET_RGB
        return Preprocessor(**pixels, shorter=self.shorter, longer_max=self.longer_max, **options)


class Preset(NamedTuple):
    """Sizes of parts that are not options."""

    boundary: Mapping[str, Any]  #: default options of ``add_boundary``
    scoring: Mapping[str, Any]  #: arguments of ``ScoringHead``
    basis_strides: tuple[int, ...] = (8, 16, 32)  #: levels that bases are computed from
    auxiliary: bool = True  #: train a semantic segmentation beside the bases
    object_size: int = 8  #: see ``sizes_of_interest``


#: Models on a ResNet.
FULL = Preset(
    boundary={"branch_channels": 32, "pyramid_strides": (8, 16, 32)},
    scoring={"pooled_channels": 64, "channels": 64, "hidden": 256},
)

#: Narrow models on a small backbone, with bases of finer levels and no auxiliary loss.
SMALL = Preset(
    boundary={"branch_channels": 16, "pyramid_strides": (4, 8, 16, 32)},
    scoring={"strides": (4,), "channels": 32, "hidden": 64},
    basis_strides=(4,),
    auxiliary=False,
    object_size=4,
)


@dataclass(frozen=True, kw_only=True)
class BasisFamily(Family):
    """A family whose masks are composed of bases, which B2Inst can join.

    Args:
        num_bases: K without the boundary basis.
        boundary: Options of the supervised boundary (``add_boundary``); None leaves it out.
        scoring: Branches of the scoring head, "iou" and "boundary"; empty leaves it out.
        refine: Refinements of mask logits in order, by name: options of "diffusion"
            (``BoundaryDiffusion``) and "convs" (``ConvRefinement``).
        oracle: Arguments of ``OracleBoundary``, the true boundary in place of a predicted one, for
            experiments.
    """

    num_bases: int
    boundary: Mapping[str, Any] | None = None
    scoring: Sequence[str] = ()
    refine: Mapping[str, Mapping[str, Any]] | None = None
    oracle: Mapping[str, Any] | None = None

    # A family's own parts; the branch is the boundary's, built from arguments of ``BasisHead``.
    _preprocessor: ClassVar[Callable[..., Preprocessor]]
    _backbone: ClassVar[Callable[..., Any]]
    _basis_head: ClassVar[Callable[..., Any]]
    _branch: ClassVar[Callable[..., BasisPredictor]]
    _assembler: ClassVar[Callable[..., Any]]
    _instance_head: ClassVar[Callable[..., Any]]

    @property
    def preset(self) -> Preset:
        """Sizes of the parts that are not options."""
        return FULL if self.backbone.startswith("resnet") else SMALL

    def build(self, num_classes: int) -> BasisSegmenter:
        """A model with fresh weights.

        Raises:
            ValueError: Options that exclude each other, or an unknown refinement.
        """
        if self.boundary is not None and self.oracle is not None:
            raise ValueError("boundary and oracle: one is predicted, one true; give one")
        seeds = PartSeeds()
        oracle = None if self.oracle is None else OracleBoundary(**self.oracle)
        with seeds.part("backbone"):
            backbone = self._backbone()
        shared = {"in_channels": backbone.out_channels, "num_classes": num_classes}
        basis_head = self._bases(seeds, shared)
        with seeds.part("refinement"):
            assembler = self._assembler(
                num_bases=basis_head.num_bases + (oracle is not None and oracle.as_basis),
                refinement=_refinement(self.refine or {}),
            )
        scoring_head = None
        if self.scoring:
            with seeds.part("scoring_head"):
                scoring_head = ScoringHead(
                    in_channels=backbone.out_channels, branches=self.scoring, **self.preset.scoring
                )
        with seeds.part("instance_head"):
            instance_head = self._instance_head(
                strides=backbone.strides, num_coefficients=assembler.num_coefficients, **shared
            )
        return BasisSegmenter(
            preprocessor=self._preprocessor(),
            backbone=backbone,
            instance_head=instance_head,
            basis_head=basis_head,
            assembler=assembler,
            scoring_head=scoring_head,
            oracle=oracle,
        )

    def _bases(self, seeds: PartSeeds, shared: dict[str, int]) -> BasisPredictor:
        """The basis head, with the boundary beside it."""
        shares_head = self.boundary is not None and self.boundary.get("branch_channels") == 0
        with seeds.part("basis_head"):
            basis_head = self._basis_head(num_bases=self.num_bases + shares_head, **shared)
        if self.boundary is None:
            return basis_head
        branch = partial(self._branch, in_channels=shared["in_channels"])
        options = {"branch_convs": len(basis_head.convs), **self.preset.boundary, **self.boundary}
        with seeds.part("boundary"):
            return add_boundary(basis_head, branch, **options)


def _refinement(options: Mapping[str, Mapping[str, Any]]) -> InTurn | None:
    known = {"diffusion": BoundaryDiffusion, "convs": ConvRefinement}
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"refine {unknown}: choose from {list(known)}")
    return InTurn([known[name](**given) for name, given in options.items()]) if options else None
