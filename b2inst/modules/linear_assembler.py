"""YOLACT's assembler: a linear combination of the bases, cropped to the box."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.losses import cropped_mask_bce
from b2inst.modules.refinement import Refinement
from b2inst.ops.frame_masks import portions
from b2inst.structures import Bases, FrameMasks, Positives, Targets


class LinearAssembler(nn.Module):
    """The sigmoid of the bases times one coefficient each (YOLACT §3.2, Eq. 1).

    Args:
        num_bases: K.
        max_masks: of an image, masks that are trained at most, drawn at random.
        weight: of the mask loss.
        refinement: of the combined logits, guided by the boundary.
    """

    def __init__(
        self,
        *,
        num_bases: int,
        max_masks: int = 100,
        weight: float = 6.125,
        refinement: Refinement | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.max_masks = max_masks
        self.weight = weight
        self.refinement = refinement

    @property
    def num_coefficients(self) -> int:
        """D = K; their hyperbolic tangent is what the bases are multiplied by."""
        return self.num_bases

    @property
    def of_last_basis(self) -> Tensor:
        """Which coefficients concern the last basis alone: D bool."""
        return torch.arange(self.num_bases) == self.num_bases - 1

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> FrameMasks:
        """Masks of the batch's instances, 0 outside their boxes.

        Args:
            boxes: per image, N in sum, in network-input pixels.
            coefficients: N×D.
        """
        height, width = _size(bases)
        parts = coefficients.split([len(b) for b in boxes])
        masks = coefficients.new_empty(len(coefficients), height, width)
        filled = masks.split([len(b) for b in boxes])
        for b, (own, inside) in enumerate(zip(parts, boxes, strict=True)):
            for rows in portions(len(own), height * width):
                full = self.logits(bases, b, own[rows]).sigmoid()
                filled[b][rows] = full * crop(inside[rows] / bases.stride, (height, width))
        return FrameMasks(masks, torch.cat(boxes), bases.stride, bases.stride / 2)

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy of the positives' masks in their true boxes, each divided by its box."""
        size = _size(bases)
        total = 0 * (bases.maps.sum() + positives.coefficients.sum())  # for batches without any
        first = 0
        for b, target in enumerate(targets):
            own = positives[positives.image_index == b]
            index = own.target_index - first
            first += len(target)
            if not len(own):
                continue
            drawn = torch.arange(len(own), device=index.device)
            if len(own) > self.max_masks:
                drawn = torch.randperm(len(own))[: self.max_masks].to(index.device)
            truth = F.interpolate(target.masks[:, None].float(), size, mode="bilinear")[:, 0] > 0.5
            boxes = (target.boxes / bases.stride)[index[drawn]]
            masks = self.logits(bases, b, own.coefficients[drawn]).sigmoid() * crop(boxes, size)
            losses = cropped_mask_bce(masks, truth[index[drawn]].float(), boxes)
            total = total + losses.sum() * (len(own) / len(drawn))
        return {"loss_mask": self.weight * total / positives.weight_sum}

    def logits(self, bases: Bases, image: int, coefficients: Tensor) -> Tensor:
        """Of the masks of an image of the batch, N×h×w; coefficients are N×K."""
        combined = self.combined(bases, image, coefficients)
        if self.refinement is None:
            return combined
        boundary = bases.boundary_logits
        return self.refinement(combined, None if boundary is None else boundary[image])

    def combined(self, bases: Bases, image: int, coefficients: Tensor) -> Tensor:
        """The same before they are refined."""
        maps = bases.maps[image]
        return (coefficients.tanh() @ maps.flatten(1)).unflatten(1, maps.shape[1:])


def crop(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells that lie in boxes, or up to a cell beside them, as published: N×h×w bool.

    Args:
        boxes: N×4 x1 y1 x2 y2 in cells; a cell ``i`` is in if x1 - 1 <= i < x2 + 1.
        size: (h, w).
    """
    columns = torch.arange(size[1], device=boxes.device).to(boxes)
    rows = torch.arange(size[0], device=boxes.device).to(boxes)
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    along = (columns >= torch.minimum(x1, x2) - 1) & (columns < torch.maximum(x1, x2) + 1)
    down = (rows >= torch.minimum(y1, y2) - 1) & (rows < torch.maximum(y1, y2) + 1)
    return down[:, :, None] & along[:, None]


def _size(bases: Bases) -> tuple[int, int]:
    return bases.maps.shape[-2], bases.maps.shape[-1]
