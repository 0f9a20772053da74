"""CondInst's assembler: each instance has a small network of its own over the bases."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from b2inst.losses import mask_dice
from b2inst.modules.fcos_targets import locations
from b2inst.modules.interfaces import Assembler
from b2inst.modules.refinement import Refinement
from b2inst.ops.distributed import even_share
from b2inst.ops.frame_masks import aligned_bilinear, portions
from b2inst.structures import Bases, FrameMasks, Positives, Targets


def at_random(positives: Positives, *, per_image: int = 250) -> Positives:
    """All positives, or ``per_image`` at random of an image that has more.

    Published as 500 per device, which has two images (CondInst §4).
    """
    keep = torch.ones_like(positives.image_index, dtype=torch.bool)
    for image in (positives.image_index.bincount() > per_image).nonzero()[:, 0]:
        rows = (positives.image_index == image).nonzero()[:, 0]
        # On the CPU, whose generator is what an interrupted training restores.
        keep[rows[torch.randperm(len(rows))[per_image:].to(rows.device)]] = False
    return positives[keep]


def best_of_objects(positives: Positives, *, per_image: int) -> Positives:
    """The best predicted positives, ``per_image`` shared evenly by an image's objects.

    Every object with positives keeps at least one; a remainder is left out, as published (BoxInst).
    """
    assert positives.scores is not None
    objects, which = positives.target_index.unique(return_inverse=True)
    image = objects.new_zeros(len(objects)).scatter(0, which, positives.image_index)
    share = (per_image // image.bincount()[image]).clamp(min=1)
    keep = torch.zeros_like(which, dtype=torch.bool)
    for k, most in enumerate(share.tolist()):
        rows = (which == k).nonzero()[:, 0]
        best = positives.scores[rows].argsort(descending=True, stable=True)
        keep[rows[best[:most]]] = True
    return positives[keep]


class DynamicMaskHead(Assembler):
    """Three 1×1 convolutions with predicted weights, ReLU between them (CondInst §3.2).

    Their input is the offset of the instance from each cell, and the bases. Coefficients are all
    weights, layer by layer, each (out, in) row by row; all biases; then x, y and the size that the
    offset is divided by, in network-input pixels.

    Args:
        channels: Between the layers.
        sample: Selects the positives whose masks are trained.
        refinement: Of the logits before upsampling, guided by the boundary.
    """

    upsampling = 2  #: of the output, to the masks' logits

    def __init__(
        self,
        *,
        num_bases: int = 8,
        channels: int = 8,
        sample: Callable[[Positives], Positives] = at_random,
        refinement: Refinement | None = None,
    ) -> None:
        widths = [2 + num_bases, channels, channels, 1]
        shapes = [(wide_out, wide_in) for wide_in, wide_out in pairwise(widths)]
        super().__init__(
            num_bases=num_bases,
            num_coefficients=sum(out * (wide_in + 1) for out, wide_in in shapes) + 3,
            refinement=refinement,
        )
        self.shapes = shapes
        self.sample = sample

    @property
    def of_last_basis(self) -> Tensor:
        """Weights of the first layer: D bool."""
        concerns = torch.zeros(self.num_coefficients, dtype=torch.bool)
        first, _ = self.filters(concerns[None])[0]
        first[..., -1] = True
        return concerns

    def filters(self, coefficients: Tensor) -> list[tuple[Tensor, Tensor]]:
        """P×D to the weights (P×out×in) and biases (P×out×1) of the layers."""
        sizes = [out * wide_in for out, wide_in in self.shapes] + [out for out, _ in self.shapes]
        parts = coefficients[:, :-3].split(sizes, dim=1)
        layers = zip(parts[:3], parts[3:], self.shapes, strict=True)
        return [(weight.unflatten(1, shape), bias[:, :, None]) for weight, bias, shape in layers]

    def offsets(self, bases: Bases, coefficients: Tensor) -> Tensor:
        """Instance minus cell, x and y in units of the instance's size: P×2×hw."""
        height, width = bases.maps.shape[-2:]
        cells = locations((height, width), int(bases.stride), coefficients.device)
        centre, size = coefficients[:, -3:-1, None], coefficients[:, -1:, None]
        return (centre - cells.T) / size

    def logits(self, bases: Bases, image: Tensor, coefficients: Tensor) -> Tensor:
        """Mask logits of P instances (P×D, of image P) before upsampling: P×h×w."""
        boundary = None
        if self.refinement is not None and bases.boundary_logits is not None:
            boundary = bases.boundary_logits[image, 0]
        return self.refined(self.filtered(bases, image, coefficients), boundary)

    def filtered(self, bases: Bases, image: Tensor, coefficients: Tensor) -> Tensor:
        """The same before refinement."""
        x = torch.cat([self.offsets(bases, coefficients), bases.maps.flatten(2)[image]], dim=1)
        *layers, (weight, bias) = self.filters(coefficients)
        for hidden_weight, hidden_bias in layers:
            x = F.relu(torch.baddbmm(hidden_bias, hidden_weight, x))
        return torch.baddbmm(bias, weight, x)[:, 0].unflatten(1, bases.maps.shape[-2:])

    def enlarged(self, logits: Tensor) -> Tensor:
        """Upsampled logits: P×h×w to P×(2h)×(2w)."""
        return aligned_bilinear(logits[:, None], self.upsampling)[:, 0]

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> FrameMasks:
        """Masks that are not confined to their boxes."""
        counts = torch.tensor([len(b) for b in boxes], device=coefficients.device)
        image = torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
        height, width = bases.maps.shape[-2:]
        size = self.upsampling * height, self.upsampling * width
        masks = bases.maps.new_empty((len(image), *size))
        for rows in portions(0, len(image), cells=height * width):
            logits = self.logits(bases, image[rows], coefficients[rows])
            masks[rows] = self.enlarged(logits).sigmoid()
        stride = int(bases.stride) // self.upsampling
        # The first cell is pixel stride // 2, whose centre is half a pixel further.
        return FrameMasks(masks, torch.cat(boxes), stride=stride, origin=stride // 2 + 0.5)

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """Mean Dice loss, over the whole padded image, of the positives that are sampled."""
        chosen = self.sample(positives)
        logits = self.enlarged(self.logits(bases, chosen.image_index, chosen.coefficients))
        loss = mask_dice(logits.float().sigmoid(), self.truths(bases, targets)[chosen.target_index])
        return {"loss_mask": loss.sum() / even_share(loss.new_tensor(len(loss)))}

    def truths(self, bases: Bases, targets: list[Targets]) -> Tensor:
        """The batch's true masks, N×h×w uint8: a cell is one pixel of them, as published."""
        step = int(bases.stride) // self.upsampling
        height, width = (self.upsampling * cells for cells in bases.maps.shape[-2:])
        masks = (t.masks[:, step // 2 :: step, step // 2 :: step] for t in targets)
        return torch.cat([F.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in masks])
