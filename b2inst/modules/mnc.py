"""Multi-task network cascades (Dai et al., CVPR 2016): boxes, masks in them, and their classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from b2inst.modules.layers import NormLayer, RoIPooler, initialise
from b2inst.modules.mask_voting import RegionOutputs, VotingDetector
from b2inst.structures import Features, ImageBatch, Targets


class MNCDetector(VotingDetector):
    """Three stages, each of which sees what the one before predicted, and is trained through it.

    The second and third stage are repeated for the boxes that the third one moves the proposals to:
    five stages in all.

    Args:
        num_classes: C.
        box_head: Builds the two fully connected layers of a path of the third stage from their
            inputs and width.
        hidden: That width.
        mask_hidden: Width of the hidden layer of the second stage.
        norm_hidden: Builds a norm after it; published without.
        mask_size: R.
        proposals: Other arguments of ``RegionDetector``.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        box_head: Callable[[int, int], nn.Module],
        hidden: int,
        mask_hidden: int = 256,
        norm_hidden: NormLayer = nn.Identity,
        mask_size: int = 28,
        **proposals: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, **proposals)
        self.pooler = RoIPooler(strides=(4, 8, 16, 32), size=14, samples=1)
        cells = mask_size**2
        self.mask = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * 14**2, mask_hidden),
            norm_hidden(mask_hidden),
            nn.ReLU(),
            nn.Linear(mask_hidden, cells),
            nn.Unflatten(1, (1, mask_size, mask_size)),
        )
        self.box_path, self.mask_path = (box_head(in_channels * 7**2, hidden) for _ in range(2))
        self.class_logits = nn.Linear(2 * hidden, num_classes + 1)
        self.moves = nn.Linear(2 * hidden, 4)
        for layer, std in ((self.mask[-2], 0.01), (self.class_logits, 0.01), (self.moves, 0.001)):
            initialise(layer, partial(nn.init.normal_, std=std))

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
        first = self.region_losses(outputs, boxes, targets).mean()
        boxes = self.moved(boxes, outputs.moves, batch)
        second = self.region_losses(self.regions(features, boxes), boxes, targets).mean()
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
        boxes = rpn.box_coder.decode(moves, anchors).unflatten(0, (len(anchors), -1))[:, :, 0]
        proposals, _ = rpn.filter_proposals(boxes, logits, batch.sizes, counts)
        if truths is None:
            return proposals, {}
        labels, objects = rpn.assign_targets_to_anchors(anchors, truths)
        losses = rpn.compute_loss(logits, moves, labels, rpn.box_coder.encode(objects, anchors))
        return proposals, dict(zip(("loss_objectness", "loss_rpn_box_reg"), losses, strict=True))
