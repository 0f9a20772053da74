"""The detector of two-stage models: Faster R-CNN (Ren et al., NeurIPS 2015) on a pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from b2inst.modules.layers import RoIPooler
from b2inst.structures import Detections, Features, ImageBatch, RoISamples, Targets


def attribute_of(part: str, name: str) -> property:
    """An attribute of a part, as one of the whole module."""
    return property(
        lambda self: getattr(getattr(self, part), name),
        lambda self, value: setattr(getattr(self, part), name, value),
    )


class RegionDetector(nn.Module):
    """torchvision's region proposals over the features of any backbone, and objects for regions.

    Args:
        strides, anchor_sizes: Of the levels that proposals come from, and the side in pixels of
            each one's anchors, with ratios 1:2, 1:1 and 2:1.
        train_proposals, test_proposals: Per level before suppression, and per image after it.
        samples: Boxes per image to train on, a quarter of them objects.
        detectron2: As there, sides of anchors are not rounded, and errors not squared near 0.
    """

    score_threshold = attribute_of("roi_heads", "score_thresh")

    def __init__(
        self,
        *,
        in_channels: int,
        strides: Sequence[int],
        anchor_sizes: Sequence[int],
        train_proposals: tuple[int, int] = (2000, 2000),
        test_proposals: tuple[int, int] = (1000, 1000),
        samples: int = 512,
        detectron2: bool = False,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.test_proposals = test_proposals
        self.box_beta = 0 if detectron2 else 1 / 9
        anchors = _Anchors(self.strides, anchor_sizes, rounded=not detectron2)
        self.rpn = _ProposalNetwork(
            anchors,
            _RPNHead(in_channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": train_proposals[0]},
            post_nms_top_n={"training": train_proposals[1]},
            nms_thresh=0.7,
        )
        self.rpn.box_beta = self.box_beta
        self.roi_heads = RoIHeads(
            None,
            None,
            None,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=samples,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=100,
        )
        self.max_detections = 100

    @property
    def max_detections(self) -> int:
        """Per image; each beyond 100 adds four proposals."""
        return int(self.roi_heads.detections_per_img)

    @max_detections.setter
    def max_detections(self, limit: int) -> None:
        self.roi_heads.detections_per_img = limit
        before, after = (usual + 4 * max(limit - 100, 0) for usual in self.test_proposals)
        self.rpn._pre_nms_top_n["testing"], self.rpn._post_nms_top_n["testing"] = before, after

    def _propose(
        self, features: Features, batch: ImageBatch, truths: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        pyramid = {str(stride): features[stride] for stride in self.strides}
        return self.rpn(ImageList(batch.images, batch.sizes), pyramid, truths)

    @staticmethod
    def _truths(targets: list[Targets]) -> list[dict[str, Tensor]]:
        """What torchvision calls targets; label 0 is background."""
        return [{"boxes": t.boxes, "labels": t.labels + 1} for t in targets]


class FasterRCNN(RegionDetector):
    """Region proposals and torchvision's box head.

    Args:
        box_pooler: Pools N boxes to N×in_channels×R×R features.
        box_head: Builds the network from these to N×hidden, from both numbers.
        refined_samples: Train masks in the boxes that the box head regresses, as at inference
            (BMask R-CNN, PointRend), instead of in the proposals.
        proposals: Other arguments of ``RegionDetector``.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        box_pooler: RoIPooler,
        box_head: Callable[[int, int], nn.Module],
        hidden: int,
        refined_samples: bool = False,
        **proposals: Any,
    ) -> None:
        head = box_head(in_channels * box_pooler.size**2, hidden)
        super().__init__(in_channels=in_channels, **proposals)
        self.refined_samples = refined_samples
        self.roi_heads.box_roi_pool = box_pooler
        self.roi_heads.box_head = head
        self.roi_heads.box_predictor = FastRCNNPredictor(hidden, num_classes + 1)

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], list[RoISamples]]:
        """Losses by name, and each image's boxes whose masks are to be trained."""
        truths = self._truths(targets)
        proposals, losses = self._propose(features, batch, truths)
        boxes, index, labels, moves = self.roi_heads.select_training_samples(proposals, truths)
        logits, deltas = self._predict(features, boxes)
        label = torch.cat(labels)
        positive = torch.where(label > 0)[0]
        own = deltas.unflatten(1, (-1, 4))[positive, label[positive]]
        error = F.smooth_l1_loss(
            own, torch.cat(moves)[positive], beta=self.box_beta, reduction="sum"
        )
        losses |= {
            "loss_class": F.cross_entropy(logits, label),
            "loss_box": error / label.numel(),
        }
        if self.refined_samples:
            with torch.no_grad():
                moved = self.roi_heads.box_coder.decode(deltas, boxes)
                moved = moved[torch.arange(len(label), device=label.device), label]
            boxes = list(moved.split([len(of) for of in boxes]))
        samples = zip(boxes, labels, index, strict=True)
        return losses, [RoISamples(b[c > 0], c[c > 0] - 1, t[c > 0]) for b, c, t in samples]

    def detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        """Detections of each image after non-maximum suppression, clipped to it."""
        proposals, _ = self._propose(features, batch)
        logits, deltas = self._predict(features, proposals)
        found = self.roi_heads.postprocess_detections(logits, deltas, proposals, batch.sizes)
        return [
            Detections(boxes, scores, labels - 1, boxes.new_zeros(len(boxes), 0))
            for boxes, scores, labels in zip(*found, strict=True)
        ]

    def _predict(self, features: Features, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        pooled = self.roi_heads.box_roi_pool(features, boxes)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits.float(), deltas.float()


class _ProposalNetwork(RegionProposalNetwork):
    """torchvision's with any error of boxes, ``box_beta``; below it, errors are squared."""

    box_beta = 1 / 9

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        positive, negative = (
            torch.where(torch.cat(chosen))[0] for chosen in self.fg_bg_sampler(labels)
        )
        sampled = torch.cat([positive, negative])
        error = F.smooth_l1_loss(
            pred_bbox_deltas[positive],
            torch.cat(regression_targets)[positive],
            beta=self.box_beta,
            reduction="sum",
        )
        truth = torch.cat(labels)[sampled]
        loss = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], truth)
        return loss, error / sampled.numel()


class _Anchors(AnchorGenerator):
    """Anchors in steps of the strides, in float32 whatever the precision of the features.

    bfloat16 would round them, and torchvision's steps depend on the padding of the image.
    """

    def __init__(self, strides: Sequence[int], sizes: Sequence[int], *, rounded: bool) -> None:
        ratios = (0.5, 1.0, 2.0)
        super().__init__(tuple((size,) for size in sizes), (ratios,) * len(sizes))
        self.steps = [[stride, stride] for stride in strides]
        if not rounded:
            root = torch.tensor(ratios).sqrt()
            sides = torch.stack([1 / root, root], dim=1)
            self.cell_anchors = [torch.cat([-sides, sides], dim=1) * size / 2 for size in sizes]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        cells = [list(maps.shape[-2:]) for maps in feature_maps]
        return [torch.cat(self.grid_anchors(cells, self.steps))] * len(image_list.image_sizes)


class _RPNHead(RPNHead):
    """With float32 outputs, since boxes are decoded in their precision."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]
