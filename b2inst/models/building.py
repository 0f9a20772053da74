"""What the families of models share: options, backbones, and the parts that B2Inst adds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.segmenter import Segmenter
from b2inst.modules.backbones import MobileNetFPN, TinyFPN, load_imagenet
from b2inst.modules.boundary_basis import OracleBoundary, add_boundary
from b2inst.modules.interfaces import BasisPredictor
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.refinement import BoundaryDiffusion, ConvRefinement, InTurn
from b2inst.modules.scoring_head import ScoringHead

#: Pixel statistics on the 0..255 scale: torchvision's weights (RGB) and MSRA's (BGR).
IMAGENET_RGB: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
MSRA_BGR: dict[str, Any] = {"mean": (103.53, 116.28, 123.675), "std": (1.0, 1.0, 1.0), "bgr": True}

#: Backbones by name.
BACKBONES = ("tiny", "mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101")


class PartSeeds:
    """Seeds of a model's parts, by name.

    So models built from the same ``torch.manual_seed`` have equal weights in the parts they share,
    and rows of a table differ in what they add. One number is drawn from the global generator.
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
        backbone: One of ``BACKBONES``.
        backbone_weights: "imagenet" (downloaded by torchvision) or None, random.
        frozen_norm: Batch norm with fixed statistics in the backbone (default: with weights).
    """

    backbone: str = "resnet50"
    backbone_weights: str | None = None
    frozen_norm: bool | None = None

    @property
    def full(self) -> bool:
        """Whether parts have their published sizes; models on other backbones are narrow."""
        return self.backbone.startswith("resnet")

    def build(self, num_classes: int) -> Segmenter:
        """A model with fresh weights."""
        raise NotImplementedError

    def _build_backbone(self, resnet_fpn: Callable[..., Any], **resnet_options: Any) -> Any:
        """The backbone, with the family's pyramid on a ResNet; options of it may be False or None.

        A ValueError if the backbone does not have one of them.
        """
        name, weights = self.backbone, self.backbone_weights
        options = {option: value for option, value in resnet_options.items() if value}
        frozen = weights is not None if self.frozen_norm is None else self.frozen_norm
        unknown = [] if self.full else list(options)
        if name not in BACKBONES:
            raise ValueError(f"backbone {name!r}: choose from {list(BACKBONES)}")
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


def levels_of(strides: Sequence[int], chosen: Sequence[int]) -> Sequence[int]:
    """Return the chosen levels of a pyramid, or all; a ValueError if it does not have one."""
    if not set(chosen) <= set(strides):
        raise ValueError(f"head_strides {list(chosen)}: choose from {list(strides)}")
    return chosen or strides


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


#: Of models on a small backbone: default options of ``add_boundary``, arguments of ``ScoringHead``.
_SMALL: tuple[dict[str, Any], dict[str, Any]] = (
    {"branch_channels": 16, "pyramid_strides": (4, 8, 16, 32)},
    {"strides": (4,), "channels": 32, "hidden": 64},
)
_REFINEMENTS = {"diffusion": BoundaryDiffusion, "convs": ConvRefinement}


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

    _sizes: ClassVar[tuple[dict[str, Any], dict[str, Any]]] = (  # as ``_SMALL``, on a ResNet
        {"branch_channels": 32, "pyramid_strides": (8, 16, 32)},
        {"pooled_channels": 64, "channels": 64, "hidden": 256},
    )
    # A family's own parts; the branch is the boundary's, built from arguments of ``BasisHead``.
    _preprocessor: ClassVar[Callable[..., Preprocessor]]
    _backbone: ClassVar[Callable[..., Any]]
    _basis_head: ClassVar[Callable[..., Any]]
    _branch: ClassVar[Callable[..., BasisPredictor]]
    _assembler: ClassVar[Callable[..., Any]]
    _instance_head: ClassVar[Callable[..., Any]]

    @property
    def _basis_strides(self) -> tuple[int, ...]:
        """Levels that bases are computed from."""
        return (8, 16, 32) if self.full else (4,)

    def build(self, num_classes: int) -> BasisSegmenter:
        if self.boundary is not None and self.oracle is not None:
            raise ValueError("boundary (predicted) and oracle (true) exclude each other; give one")
        boundary_sizes, scoring_sizes = self._sizes if self.full else _SMALL
        seeds = PartSeeds()
        oracle = None if self.oracle is None else OracleBoundary(**self.oracle)
        with seeds.part("backbone"):
            backbone = self._backbone()
        shared = {"in_channels": backbone.out_channels, "num_classes": num_classes}
        boundary = self.boundary or {}
        shares_head = boundary.get("branch_channels") == 0
        with seeds.part("basis_head"):
            basis_head = self._basis_head(num_bases=self.num_bases + shares_head, **shared)
        if self.boundary is not None:
            branch = partial(self._branch, in_channels=backbone.out_channels)
            options = {"branch_convs": len(basis_head.convs), **boundary_sizes, **boundary}
            with seeds.part("boundary"):
                basis_head = add_boundary(basis_head, branch, **options)
        refine = self.refine or {}
        if unknown := [name for name in refine if name not in _REFINEMENTS]:
            raise ValueError(f"refine {unknown}: choose from {list(_REFINEMENTS)}")
        with seeds.part("refinement"):
            refinements = [_REFINEMENTS[name](**given) for name, given in refine.items()]
            assembler = self._assembler(
                num_bases=basis_head.num_bases + (oracle is not None and oracle.as_basis),
                refinement=InTurn(refinements) if refinements else None,
            )
        scoring_head = None
        if self.scoring:
            with seeds.part("scoring_head"):
                scoring_head = ScoringHead(
                    in_channels=backbone.out_channels, branches=self.scoring, **scoring_sizes
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
