"""The MaskIoU head of Mask Scoring R-CNN (Huang et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads

from b2inst.modules.mlp import mlp
from b2inst.ops.distributed import even_share
from b2inst.structures import RoIOutputs, of_class


class MaskIoUHead(nn.Module):
    """Predicts the IoU of a mask from it and the features that it was computed from.

    Args:
        in_channels: channels of the pooled features.
        num_classes: C; there is an IoU for each.
        pooled_size: side of the pooled features in cells, half of a mask's.
        channels: width of the four convolutions; the last halves the resolution.
        hidden: width of the two fully connected layers.
        norm, norm_hidden: build norms, after each convolution and fully connected layer, from
            their widths; published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooled_size: int = 14,
        channels: int = 256,
        hidden: int = 1024,
        norm: Callable[[int], nn.Module] | None = None,
        norm_hidden: Callable[[int], nn.Module] = lambda _: nn.Identity(),
    ) -> None:
        super().__init__()
        self.convs = MaskRCNNHeads(in_channels + 1, [channels] * 4, dilation=1, norm_layer=norm)
        self.convs[-1][0].stride = (2, 2)
        cells = ((pooled_size + 1) // 2) ** 2
        self.regress = nn.Sequential(
            nn.Flatten(), *mlp(channels * cells, hidden, num_classes, norm=norm_hidden)
        )
        for layer in self.regress:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.regress[-1].weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor, masks: Tensor) -> Tensor:
        """IoU for each class, N×K, unbounded.

        Args:
            pooled: N×C×R/2×R/2.
            masks: N×R×R probabilities.
        """
        smaller = F.max_pool2d(masks[:, None].to(pooled), 2)
        return self.regress(self.convs(torch.cat([pooled, smaller], dim=1))).float()

    def loss(
        self, outputs: RoIOutputs, labels: Tensor, truths: Tensor, inside: Tensor
    ) -> dict[str, Tensor]:
        """Half the squared error, over the masks whose IoU is not 0.

        The gradient flows on into mask head and features, as published.

        Args:
            labels: N int64.
            truths: N×R×R, 0 or 1.
            inside: N, which part of its object lies in each box.
        """
        logits = outputs.of_class(labels)
        predicted = of_class(self(outputs.pooled, logits.sigmoid()), labels)
        target = mask_iou_target(logits.detach() > 0, truths, inside)
        counted = target > 0
        error = (predicted - target).square() * counted
        return {"loss_iou_score": 0.5 * error.sum() / even_share(counted.sum())}


def mask_iou_target(masks: Tensor, truths: Tensor, inside: Tensor) -> Tensor:
    """IoU of masks with whole objects, of which they show what lies in a box: N in [0, 1].

    Args:
        masks: N×R×R bool.
        truths: N×R×R, 0 or 1, the objects within the boxes.
        inside: N, which part of its object lies in each box.
    """
    overlap = (masks * truths).sum((1, 2))
    whole = truths.sum((1, 2)) / inside.clamp(min=1e-10)
    return overlap / (masks.sum((1, 2)) + whole - overlap).clamp(min=1)
