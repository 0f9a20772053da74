"""Multi-task network cascades (Dai et al., CVPR 2016): boxes, masks in them, and their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from b2inst.modules.layers import NormLayer, RoIPooler
from b2inst.modules.mask_voting import RegionOutputs, VotingDetector, mean_losses
from b2inst.structures import Features, ImageBatch, Targets


class MNCDetector(VotingDetector):
    """Three stages, each of which sees what the one before predicted, and is trained through it.

    The second and third stage are repeated for the boxes that the third one moves the proposals to:
    five stages in all.

    Args:
        box_head, hidden: The two fully connected layers of a path of the third stage, see
            ``FasterRCNN``.
        mask_hidden: Width of the hidden layer of the second stage.
        norm: Builds a norm after it; published without.
        proposals: Other arguments of ``RegionDetector``.
    """

    mask_size = 28  #: R

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        box_head: Callable[[int, int], nn.Module],
        hidden: int,
        mask_hidden: int = 256,
        norm: NormLayer = nn.Identity,
        **proposals: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, **proposals)
        self.pooler = RoIPooler(strides=(4, 8, 16, 32), size=14, samples=1)
        self.mask = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * 14**2, mask_hidden),
            norm(mask_hidden),
            nn.ReLU(),
            nn.Linear(mask_hidden, self.mask_size**2),
            nn.Unflatten(1, (1, self.mask_size, self.mask_size)),
        )
        self.box_path, self.mask_path = (box_head(in_channels * 7**2, hidden) for _ in range(2))
        self.class_logits = nn.Linear(2 * hidden, num_classes + 1)
        self.moves = nn.Linear(2 * hidden, 4)

    def regions(self, maps: Features, boxes: list[Tensor]) -> RegionOutputs:
        """Outputs of the second and third stage for N regions."""
        pooled = self.pooler(maps, boxes)
        mask_logits = self.mask(pooled).float()
        inside = F.adaptive_avg_pool2d(mask_logits.sigmoid(), pooled.shape[-1])
        paths = (self.box_path, pooled), (self.mask_path, pooled * inside)
        joined = torch.cat([path(F.max_pool2d(own, 2)) for path, own in paths], dim=1)
        moves = self.moves(joined).float()
        return RegionOutputs(self.class_logits(joined).float(), moves, mask_logits)

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Losses by name, summed over both times that masks and classes are predicted."""
        truths = self._truths(targets)
        proposals, losses = self._propose(features, batch, truths)
        boxes, *_ = self.roi_heads.select_training_samples(proposals, truths)
        outputs = self.regions(features, boxes)
        first = mean_losses(self.region_losses(outputs, boxes, targets))
        boxes = self.moved(boxes, limit_gradient(outputs.moves, len(boxes)), batch)
        outputs = self.regions(features, boxes)
        second = mean_losses(self.region_losses(outputs, boxes, targets))
        return losses | {name: first[name] + second[name] for name in first}

    def _propose(
        self, features: Features, batch: ImageBatch, truths: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals with a gradient, which torchvision stops."""
        rpn, levels = self.rpn, [features[stride] for stride in self.strides]
        logits, moves = rpn.head(levels)
        anchors = rpn.anchor_generator(ImageList(batch.images, batch.sizes), levels)
        counts = [level[0].numel() for level in logits]
        logits, moves = concat_box_prediction_layers(logits, moves)
        boxes = rpn.box_coder.decode(limit_gradient(moves, len(anchors)), anchors)
        boxes = boxes.unflatten(0, (len(anchors), -1))[:, :, 0]
        proposals, _ = rpn.filter_proposals(boxes, logits, batch.sizes, counts)
        if truths is None:
            return proposals, {}
        labels, objects = rpn.assign_targets_to_anchors(anchors, truths)
        losses = rpn.compute_loss(logits, moves, labels, rpn.box_coder.encode(objects, anchors))
        return proposals, dict(zip(("loss_objectness", "loss_rpn_box_reg"), losses, strict=True))


def limit_gradient(moves: Tensor, images: int) -> Tensor:
    """The same moves, no number of which gets a gradient beyond ±1/512 per image, as published.

    Else that of masks and classes outweighs the boxes' own loss, and proposals get worse.
    """
    moves, limit = moves.view_as(moves), 1 / (512 * images)
    if moves.requires_grad:
        moves.register_hook(
            lambda gradient: None if gradient is None else gradient.clamp(-limit, limit)
        )
    return moves
