"""BlendMask's assembler: instance attention maps blend the bases in each RoI."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from b2inst.losses import mask_bce
from b2inst.modules.interfaces import Assembler
from b2inst.modules.refinement import Refinement
from b2inst.ops.masks import crop_masks
from b2inst.structures import Bases, Positives, RoIMasks, Targets


class Blender(Assembler):
    """Softmax over the bases of K attention maps A×A, spread over the RoI (BlendMask §3.1).

    Args:
        attention_size: A; 7 in the paper, 14 in the published BlendMask.
        roi_size: R, side of the masks in cells.
        refinement: Of the blended logits, guided by the boundary in the RoI.
    """

    def __init__(
        self,
        *,
        num_bases: int,
        attention_size: int = 7,
        roi_size: int = 56,
        refinement: Refinement | None = None,
    ) -> None:
        super().__init__(
            num_bases=num_bases,
            num_coefficients=num_bases * attention_size**2,
            refinement=refinement,
        )
        self.attention_size = attention_size
        self.roi_size = roi_size

    def attention(self, coefficients: Tensor) -> Tensor:
        """Blending weights P×K×R×R of P×D coefficients; they sum to 1 over the bases."""
        maps = coefficients.view(-1, self.num_bases, self.attention_size, self.attention_size)
        return F.interpolate(maps, self.roi_size, mode="bilinear").softmax(1)

    def pool(self, maps: Tensor, stride: float, boxes: list[Tensor]) -> Tensor:
        """Pool maps inside N boxes, given per image in network-input pixels, to N×K×R×R."""
        return roi_align(maps, boxes, self.roi_size, 1 / stride, sampling_ratio=1, aligned=True)

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> RoIMasks:
        logits = self._logits(bases, boxes, coefficients)
        return RoIMasks(logits.sigmoid(), torch.cat(boxes))

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy of every positive's mask in its true box, weighted by centerness."""
        index = positives.target_index
        logits = self._logits(bases, [t.boxes for t in targets], positives.coefficients, index)
        truths = torch.cat([crop_masks(t.masks, t.boxes, self.roi_size) for t in targets])
        loss = mask_bce(logits, truths[index]) * positives.weights
        return {"loss_mask": loss.sum() / positives.weight_sum}

    def _logits(
        self,
        bases: Bases,
        boxes: list[Tensor],
        coefficients: Tensor,
        box_index: Tensor | slice = slice(None),
    ) -> Tensor:
        """P×R×R mask logits; ``box_index`` is the box of each, by default all in order."""
        rois = self.pool(bases.maps, bases.stride, boxes)[box_index]
        blended = (rois * self.attention(coefficients)).sum(1)
        guide = None
        if self.refinement is not None and bases.boundary_logits is not None:
            guide = self.pool(bases.boundary_logits, bases.stride, boxes)[box_index, 0]
        return self.refined(blended, guide)
