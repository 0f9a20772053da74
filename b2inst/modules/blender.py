"""BlendMask's assembler: instance attention maps blend the bases in each RoI."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from b2inst.losses import mask_bce
from b2inst.modules.refinement import Refinement
from b2inst.ops.masks import crop_masks
from b2inst.structures import Bases, Positives, RoIMasks, Targets


class Blender(nn.Module):
    """Softmax over the bases of K attention maps A×A, spread over the RoI (BlendMask §3.1).

    Args:
        num_bases: number of bases K.
        attention_size: A; 7 in the paper, 14 in the published BlendMask.
        roi_size: R, side of the masks in cells.
        refinement: of the blended logits, guided by the boundary in the RoI.
    """

    def __init__(
        self,
        *,
        num_bases: int,
        attention_size: int = 7,
        roi_size: int = 56,
        refinement: Refinement | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.attention_size = attention_size
        self.roi_size = roi_size
        self.refinement = refinement

    @property
    def num_coefficients(self) -> int:
        """D = K·A·A."""
        return self.num_bases * self.attention_size**2

    @property
    def of_last_basis(self) -> Tensor:
        """Which coefficients concern the last basis alone, its attention: D bool."""
        basis = torch.arange(self.num_bases).repeat_interleave(self.attention_size**2)
        return basis == self.num_bases - 1

    def attention(self, coefficients: Tensor) -> Tensor:
        """Blending weights P×K×R×R of P×D coefficients; they sum to 1 over the bases."""
        size = self.attention_size
        maps = coefficients.view(-1, self.num_bases, size, size)
        return F.interpolate(maps, self.roi_size, mode="bilinear", align_corners=False).softmax(1)

    def pool(self, bases: Bases, boxes: list[Tensor]) -> Tensor:
        """Bases inside each box, N×K×R×R; ``boxes`` are per image, in network-input pixels."""
        return self._pool(bases.maps, bases.stride, boxes)

    def guide(self, bases: Bases, boxes: list[Tensor]) -> Tensor | None:
        """Boundary logits inside each box, N×R×R, where they are predicted and needed."""
        if self.refinement is None or bases.boundary_logits is None:
            return None
        return self._pool(bases.boundary_logits, bases.stride, boxes)[:, 0]

    def logits(self, rois: Tensor, guide: Tensor | None, coefficients: Tensor) -> Tensor:
        """P×R×R mask logits of P×K×R×R pooled bases."""
        blended = (rois * self.attention(coefficients)).sum(1)
        return blended if self.refinement is None else self.refinement(blended, guide)

    def _pool(self, maps: Tensor, stride: float, boxes: list[Tensor]) -> Tensor:
        return roi_align(maps, boxes, self.roi_size, 1 / stride, sampling_ratio=1, aligned=True)

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> RoIMasks:
        """N masks; ``boxes`` are per image, in network-input pixels, coefficients N×D."""
        logits = self.logits(self.pool(bases, boxes), self.guide(bases, boxes), coefficients)
        return RoIMasks(logits.sigmoid(), torch.cat(boxes))

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy of every positive's mask in its true box, weighted by centerness."""
        boxes = [t.boxes for t in targets]
        rois, guide = self.pool(bases, boxes), self.guide(bases, boxes)
        truths = torch.cat([crop_masks(t.masks, t.boxes, self.roi_size) for t in targets])
        index = positives.target_index
        guides = None if guide is None else guide[index]
        logits = self.logits(rois[index], guides, positives.coefficients)
        loss = mask_bce(logits, truths[index]) * positives.weights
        return {"loss_mask": loss.sum() / positives.weight_sum}
