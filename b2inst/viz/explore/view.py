"""A model before an image: what it found there, and what it would find with other bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from b2inst.models import BasisSegmenter, Explanation
from b2inst.modules.boundary_basis import BoundaryBasis
from b2inst.ops.masks import covered, encode_rle
from b2inst.ops.quality import boundary_dice, mask_iou
from b2inst.structures import Features, Instances
from b2inst.viz.explore.composition import Contributions, Extent, contributions, scaled, without
from b2inst.viz.explore.forming import Forming, form, guided, refinement_of, steps_of
from b2inst.viz.explore.subjects import Subject


@dataclass(frozen=True)
class Outcome:
    """The instances of an image under a choice of bases, in the order of the view's."""

    instances: Instances  #: scores are not ranked anew: see ``ranking``
    iou: Tensor  #: N, of each mask with its object; NaN where it has none
    dice: Tensor  #: N, boundary Dice (Eq. 1) with its object; NaN where it has none


@dataclass(frozen=True)
class Effect:
    """What becomes of one mask."""

    pixels: int  #: of the mask before
    gained: int  #: pixels that enter the mask
    lost: int  #: and those that leave it
    iou: tuple[float, float]  #: with the object, before and after; NaN where there is none
    dice: tuple[float, float]  #: boundary Dice, before and after

    @property
    def changed(self) -> int:
        """Pixels that enter or leave the mask."""
        return self.gained + self.lost

    @classmethod
    def between(
        cls, before: Tensor, after: Tensor, iou: tuple[Any, Any], dice: tuple[Any, Any]
    ) -> Self:
        """Of two H×W bool masks, with the qualities of both."""
        return cls(
            pixels=int(before.sum()),
            gained=int((after & ~before).sum()),
            lost=int((before & ~after).sum()),
            iou=(float(iou[0]), float(iou[1])),
            dice=(float(dice[0]), float(dice[1])),
        )


@dataclass(frozen=True)
class Formed:
    """One mask of an image, composed and after each of S steps."""

    forming: Forming
    masks: Tensor  #: (S+1)×H×W bool, in the image
    iou: Tensor  #: S+1, with the object; NaN where there is none
    dice: Tensor  #: S+1, boundary Dice, the same

    def effect(self, start: int, end: int) -> Effect:
        """What becomes of the mask from one step to another; step 0 is the composed mask."""
        iou, dice = ((quality[start], quality[end]) for quality in (self.iou, self.dice))
        return Effect.between(self.masks[start], self.masks[end], iou, dice)


@dataclass(frozen=True)
class View:
    """A model and what it made of an image; see ``look``."""

    model: BasisSegmenter
    subject: Subject
    explanation: Explanation
    frame: tuple[int, int]  #: (height, width) of the image in the network's input
    name: str = "model"  #: what pictures call it

    @property
    def num_bases(self) -> int:
        """K."""
        return self.explanation.bases.maps.shape[1]

    @property
    def basis_names(self) -> list[str]:
        """K names; the boundary basis, where there is one, is the last."""
        names = [f"basis {k + 1}" for k in range(self.num_bases)]
        return names if self.boundary_basis is None else [*names[:-1], "boundary"]

    @property
    def boundary_basis(self) -> int | None:
        """Place of the boundary among the bases; None where it is none of them."""
        return self.num_bases - 1 if isinstance(self.model.basis_head, BoundaryBasis) else None

    @cached_property
    def steps(self) -> int:
        """S, between the composed logits and the mask; 0 where masks are not refined."""
        return steps_of(refinement_of(self.model.assembler))

    @cached_property
    def gated(self) -> bool:
        """Whether the predicted boundary bounds these steps."""
        boundary = self.explanation.bases.boundary_logits
        return boundary is not None and guided(refinement_of(self.model.assembler))

    @property
    def refined_by(self) -> str:
        """What texts call that which masks go through once they are composed."""
        return "gate" if self.gated else "refinement"

    @property
    def scale(self) -> tuple[float, float]:
        """Image pixels per network-input pixel, along x and y."""
        height, width = self.explanation.image.shape[:2]
        return width / self.frame[1], height / self.frame[0]

    @cached_property
    def objects(self) -> Tensor:
        """N int64: the true object, of whatever class, that each mask overlaps most; -1: none."""
        masks, truths = self.explanation.instances.masks, self.subject.truth.masks
        if not len(truths) or not len(masks):
            return torch.full((len(masks),), -1)
        best, index = overlaps(masks, truths.bool()).max(1)
        return torch.where(best > 0, index, -1)

    @cached_property
    def trained(self) -> Outcome:
        """The instances as they were predicted."""
        instances = self.explanation.instances
        return Outcome(instances, *self._quality(instances.masks, slice(None)))

    @cached_property
    def features(self) -> Features:
        """Of the image, for the scoring head to see new masks with."""
        batch = self.model.preprocessor([self.model.preprocessor.resized(self.subject.image)])
        features: Features = self.model.backbone(batch.images)
        return features

    @torch.inference_mode()
    def recompose(self, factors: Sequence[float]) -> Outcome:
        """Masks, their predicted scores and their true quality, with each basis times a factor.

        The boxes, classes and coefficients stay. The scoring head sees the new masks.
        """
        found, instances = self.explanation.detections, self.explanation.instances
        bases, boxes = scaled(self.explanation.bases, factors), [found.boxes]
        masks = self.model.assembler.assemble(bases, boxes, found.coefficients)
        rated = {}
        if self.model.scoring_head is not None:
            logits = self.model.scoring_head(self.features, boxes, masks)
            rated = {f"{name}_scores": value.sigmoid() for name, value in logits.items()}
        size = (self.explanation.image.shape[0], self.explanation.image.shape[1])
        pasted = masks.paste(instances.boxes, size, self.frame)
        iou, dice = self._quality(pasted, slice(None))
        return Outcome(replace(instances, masks=pasted, **rated), iou, dice)

    @torch.inference_mode()
    def take_apart(self, instance: int, factors: Sequence[float]) -> Contributions:
        """What each basis contributes to one mask."""
        found = self.explanation.detections
        return contributions(
            self.model.assembler,
            self.explanation.bases,
            found.boxes[instance],
            found.coefficients[instance],
            factors,
        )

    @torch.inference_mode()
    def switch_off(self, instance: int, basis: int) -> Effect:
        """What one mask would be without one basis, the others as they were trained."""
        one = slice(instance, instance + 1)
        found, instances = self.explanation.detections[one], self.explanation.instances[one]
        bases = scaled(self.explanation.bases, without([1.0] * self.num_bases, basis))
        masks = self.model.assembler.assemble(bases, [found.boxes], found.coefficients)
        size = (self.explanation.image.shape[0], self.explanation.image.shape[1])
        after = masks.paste(instances.boxes, size, self.frame)
        return self._effect(instance, after[0], *self._quality(after, one))

    @torch.inference_mode()
    def form(self, instance: int, factors: Sequence[float]) -> Formed:
        """How one mask forms, step by step, with each basis times a factor.

        Raises:
            ValueError: masks are not refined; ``steps`` is 0.
        """
        one = slice(instance, instance + 1)
        found, instances = self.explanation.detections, self.explanation.instances
        bases = scaled(self.explanation.bases, factors)
        box, coefficients = found.boxes[instance], found.coefficients[instance]
        forming = form(self.model.assembler, bases, box, coefficients)
        size = (self.explanation.image.shape[0], self.explanation.image.shape[1])
        boxes = instances.boxes[one].expand(forming.steps + 1, -1)
        masks = forming.masks.paste(boxes, size, self.frame)
        return Formed(forming, masks, *self._quality(masks, one))

    def effect(self, instance: int, outcome: Outcome) -> Effect:
        """What a choice of bases has made of one mask."""
        one = slice(instance, instance + 1)
        mask = outcome.instances.masks[instance]
        return self._effect(instance, mask, outcome.iou[one], outcome.dice[one])

    def _effect(self, instance: int, after: Tensor, iou: Tensor, dice: Tensor) -> Effect:
        before, trained = self.explanation.instances.masks[instance], self.trained
        return Effect.between(
            before, after, (trained.iou[instance], iou), (trained.dice[instance], dice)
        )

    def in_image(self, extent: Extent) -> Extent:
        """Network-input pixels to pixels of the image."""
        x, y = self.scale
        return (extent[0] * x, extent[1] * x, extent[2] * y, extent[3] * y)

    @property
    def grid_extent(self) -> Extent:
        """Where the basis grid lies, its padding too, in pixels of the image."""
        height, width = self.explanation.bases.maps.shape[-2:]
        return self._cells_extent(height, width)

    @property
    def content_extent(self) -> Extent:
        """The same of the cells that the image covers."""
        return self._cells_extent(*self.explanation.content)

    def _cells_extent(self, height: int, width: int) -> Extent:
        stride = self.explanation.bases.stride
        return self.in_image((0.0, width * stride, 0.0, height * stride))

    def _quality(self, masks: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Mask IoU and boundary Dice of N masks, of N rows or all of one, with their objects."""
        objects, truths = self.objects[rows].expand(len(masks)), self.subject.truth.masks
        iou = torch.full((len(masks),), torch.nan)
        dice = iou.clone()
        for k in objects.unique().tolist():
            if k >= 0:
                own, truth = objects == k, truths[k].bool()
                top, left, any_of = covered(masks[own].any(0) | truth)
                height, width = any_of.shape
                down, along = slice(top, top + height), slice(left, left + width)
                seen, true = masks[own][:, down, along], truth[down, along]
                iou[own], dice[own] = mask_iou(seen, true), boundary_dice(seen, true)
        return iou, dice


def overlaps(masks: Tensor, others: Tensor) -> Tensor:
    """IoUs of N×H×W and M×H×W bool masks: N×M. As run lengths, since most of them are far apart."""
    codes = encode_rle(others)
    ious = coco_mask.iou(encode_rle(masks), codes, [0] * len(codes))
    return torch.as_tensor(np.asarray(ious)).reshape(len(masks), len(others))


@torch.inference_mode()
def look(model: BasisSegmenter, subject: Subject, *, name: str = "model") -> View:
    """Let a model predict an image, and keep all that the explorer moves.

    Args:
        name: what pictures call the model.
    """
    explanation = model.explain(subject.image)
    _, *frame = model.preprocessor.resized(subject.image).shape
    return View(model, subject, explanation, (frame[0], frame[1]), name)
