"""YOLACT's assembler: a linear combination of the bases, cropped to the box."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from b2inst.losses import cropped_mask_bce
from b2inst.modules.interfaces import Assembler
from b2inst.modules.refinement import Refinement
from b2inst.ops.frame_masks import portions
from b2inst.structures import Bases, FrameMasks, Positives, Targets


class LinearAssembler(Assembler):
    """The sigmoid of the bases times tanh of a coefficient each (YOLACT §3.2, Eq. 1).

    Args:
        refinement: Of the combined logits, guided by the boundary.
    """

    max_masks = 100  #: to train per image, drawn at random
    weight = 6.125  #: of the mask loss

    def __init__(self, *, num_bases: int, refinement: Refinement | None = None) -> None:
        super().__init__(num_bases=num_bases, num_coefficients=num_bases, refinement=refinement)

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> FrameMasks:
        """Masks that are 0 outside their boxes."""
        every = torch.cat(boxes)
        height, width = bases.maps.shape[-2:]
        masks = bases.maps.new_empty((len(every), height, width))
        stop = 0
        for b, own in enumerate(boxes):
            start, stop = stop, stop + len(own)
            for rows in portions(start, stop, cells=height * width):
                cells = every[rows] / bases.stride
                masks[rows] = self._cropped(bases, b, coefficients[rows], cells)
        return FrameMasks(masks, every, bases.stride, bases.stride / 2)

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy of the positives' masks in their true boxes, each divided by its box."""
        size = bases.maps.shape[-2:]
        padded = [round(cells * bases.stride) for cells in size]  # in pixels
        used = (bases.maps, positives.coefficients, *self.parameters())
        total = 0 * torch.stack([tensor.sum() for tensor in used]).sum()  # for batches without any
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
            down, along = (a - b for a, b in zip(padded, target.masks.shape[1:], strict=True))
            whole = F.pad(target.masks, (0, along, 0, down))
            truth = F.interpolate(whole[:, None].float(), size, mode="bilinear")[:, 0] > 0.5
            boxes = (target.boxes / bases.stride)[index[drawn]]
            masks = self._cropped(bases, b, own.coefficients[drawn], boxes)
            losses = cropped_mask_bce(masks, truth[index[drawn]].float(), boxes)
            total = total + losses.sum() * (len(own) / len(drawn))
        return {"loss_mask": self.weight * total / positives.weight_sum}

    def _cropped(self, bases: Bases, image: int, coefficients: Tensor, boxes: Tensor) -> Tensor:
        """Masks N×h×w of one image, 0 outside their boxes, which are in cells."""
        maps, boundary = bases.maps[image], bases.boundary_logits
        logits = (coefficients.tanh() @ maps.flatten(1)).unflatten(1, maps.shape[1:])
        logits = self.refined(logits, None if boundary is None else boundary[image])
        return logits.float().sigmoid() * crop(boxes, (maps.shape[1], maps.shape[2]))


def crop(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells i of (h, w) with x1 - 1 <= i < x2 + 1, as published, of boxes in cells: N×h×w bool."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    return _near(y1, y2, size[0])[:, :, None] & _near(x1, x2, size[1])[:, None]


def _near(start: Tensor, stop: Tensor, cells: int) -> Tensor:
    index = torch.arange(cells, device=start.device).to(start)
    return (index >= torch.minimum(start, stop) - 1) & (index < torch.maximum(start, stop) + 1)
