"""Small models on MobileNetV2, which can start from ImageNet weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from b2inst.models.segmenter import BasisSegmenter
from b2inst.modules.mobilenet_fpn import MobileNetFPN


def on_mobilenet(
    build: Callable[..., BasisSegmenter],
    *,
    backbone_weights: str | None = None,
    frozen_norm: bool | None = None,
    **options: Any,
) -> BasisSegmenter:
    """A family's tiny model with MobileNetV2 as its backbone.

    Args:
        build: ``blendmask_tiny``, ``yolact_tiny`` or ``condinst_tiny``.
        backbone_weights: "imagenet" (fetched by torchvision) or None, from scratch.
        frozen_norm: fixed batch norm in the backbone; by default as the weights want it.
        options: of ``build``.
    """
    frozen = backbone_weights is not None if frozen_norm is None else frozen_norm
    backbone = partial(MobileNetFPN, weights=backbone_weights, frozen_norm=frozen)
    return build(make_backbone=backbone, **options)
