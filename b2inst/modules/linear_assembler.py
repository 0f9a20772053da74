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
        num_bases: number of bases K.
        max_masks: most masks to train per image, drawn at random.
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
        """D = K; bases are multiplied by their hyperbolic tangents."""
        return self.num_bases

    @property
    def of_last_basis(self) -> Tensor:
        """Which coefficients concern the last basis alone: D bool."""
        return torch.arange(self.num_bases) == self.num_bases - 1

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> FrameMasks:
        """N masks, 0 outside their boxes.

        Args:
            boxes: per image, N in total, in network-input pixels.
            coefficients: N×D.
        """
        every = torch.cat(boxes)
        height, width = _size(bases)
        masks = bases.maps.new_empty((len(every), height, width))
        stop = 0
        for b, own in enumerate(boxes):
            start, stop = stop, stop + len(own)
            for rows in portions(start, stop, cells=height * width):
                full = self.logits(bases, b, coefficients[rows]).sigmoid()
                masks[rows] = full * crop(every[rows] / bases.stride, (height, width))
        return FrameMasks(masks, every, bases.stride, bases.stride / 2)

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy of the positives' masks in their true boxes, each divided by its box."""
        size = _size(bases)
        height, width = (round(cells * bases.stride) for cells in size)  # with padding, in pixels
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
            down, along = height - target.masks.shape[1], width - target.masks.shape[2]
            whole = F.pad(target.masks, (0, along, 0, down))
            truth = F.interpolate(whole[:, None].float(), size, mode="bilinear")[:, 0] > 0.5
            boxes = (target.boxes / bases.stride)[index[drawn]]
            masks = self.logits(bases, b, own.coefficients[drawn]).sigmoid() * crop(boxes, size)
            losses = cropped_mask_bce(masks, truth[index[drawn]].float(), boxes)
            total = total + losses.sum() * (len(own) / len(drawn))
        return {"loss_mask": self.weight * total / positives.weight_sum}

    def logits(self, bases: Bases, image: int, coefficients: Tensor) -> Tensor:
        """Mask logits N×h×w of an image in the batch; coefficients are N×K."""
        maps, boundary = bases.maps[image], bases.boundary_logits
        combined = (coefficients.tanh() @ maps.flatten(1)).unflatten(1, maps.shape[1:])
        if self.refinement is None:
            return combined
        return self.refinement(combined, None if boundary is None else boundary[image])


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
