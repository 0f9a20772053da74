"""The mask head of Mask R-CNN (He et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from b2inst.losses import mask_bce
from b2inst.modules.roi_pooler import RoIPooler
from b2inst.ops.distributed import mean_weight
from b2inst.structures import Features, RoIOutputs


class RoIMaskHead(nn.Module):
    """Four convolutions on the features in a box, upsampled, to a mask of each class.

    Args:
        in_channels: channels of the features.
        num_classes: C.
        pooler: pools the features in a box to half a mask's size.
        channels: width of the convolutions.
        norm: builds a norm after each convolution from its width; published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooler: RoIPooler,
        channels: int = 256,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.roi_size = 2 * pooler.size  #: R, side of a mask in cells
        self.convs = MaskRCNNHeads(in_channels, [channels] * 4, dilation=1, norm_layer=norm)
        self.predictor = MaskRCNNPredictor(channels, channels, num_classes)

    def forward(self, features: Features, boxes: list[Tensor]) -> RoIOutputs:
        """Masks of N boxes, given per image in network-input pixels."""
        pooled = self.pooler(features, boxes)
        return RoIOutputs(pooled, self.predictor(self.convs(pooled)))

    def loss(self, outputs: RoIOutputs, labels: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the masks of N labels: truths N×R×R, 0 or 1."""
        return {"loss_mask": class_mask_loss(outputs, labels, truths)}


def class_mask_loss(outputs: RoIOutputs, labels: Tensor, truths: Tensor) -> Tensor:
    """Mean cross-entropy over all cells of the masks of N labels; 0 without any."""
    weight = mean_weight(labels.new_tensor(len(labels)))
    if not len(labels):
        return outputs.logits.float().sum()  # 0, with a gradient for every parameter
    return weight * mask_bce(outputs.of_class(labels), truths).mean()
