"""The detector of two-stage models: Faster R-CNN (Ren et al., NeurIPS 2015) on a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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


class RegionDetector(nn.Module):
    """torchvision's region proposals over the features of any backbone, and objects for regions.

    Args:
        in_channels: Of every level.
        strides: Of the levels that proposals come from.
        anchor_sizes: Side in pixels of each level's anchors, with ratios 1:2, 1:1 and 2:1.
        train_proposals, test_proposals: Per level before suppression, and per image after it.
        samples: Boxes per image to train on, a quarter of them objects.
        detectron2: Anchors and box losses of detectron2: sides of anchors are not rounded, their
            steps are the strides, and errors are not squared near 0.
    """

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
        generator = partial(_StrideAnchors, self.strides) if detectron2 else _Anchors
        anchors = generator(
            tuple((size,) for size in anchor_sizes), ((0.5, 1.0, 2.0),) * len(anchor_sizes)
        )
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
        more = 4 * max(limit - 100, 0)
        for counts, usual in zip(
            (self.rpn._pre_nms_top_n, self.rpn._post_nms_top_n), self.test_proposals, strict=True
        ):
            counts["testing"] = usual + more

    @property
    def score_threshold(self) -> float:
        """Least class probability of a detection."""
        return float(self.roi_heads.score_thresh)

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self.roi_heads.score_thresh = value

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
        box_pooler, box_head: N boxes to N×in_channels×R×R features, and these to N×hidden.
        refined_samples: Train masks in the boxes that the box head regresses, as at inference
            (BMask R-CNN, PointRend), instead of in the proposals.
        proposals: Other arguments of ``RegionDetector``.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        box_pooler: RoIPooler,
        box_head: nn.Module,
        hidden: int,
        refined_samples: bool = False,
        **proposals: Any,
    ) -> None:
        super().__init__(**proposals)
        self.refined_samples = refined_samples
        self.roi_heads.box_roi_pool = box_pooler
        self.roi_heads.box_head = box_head
        self.roi_heads.box_predictor = FastRCNNPredictor(hidden, num_classes + 1)

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], list[RoISamples]]:
        """Losses by name, and each image's boxes whose masks are to be trained."""
        truths = self._truths(targets)
        proposals, losses = self._propose(features, batch, truths)
        boxes, index, labels, moves = self.roi_heads.select_training_samples(proposals, truths)
        logits, deltas = self._predict(features, boxes)
        losses |= self._box_losses(logits, deltas, torch.cat(labels), torch.cat(moves))
        if self.refined_samples:
            boxes = self._refined(boxes, labels, deltas)
        samples = []
        for own, label, target in zip(boxes, labels, index, strict=True):
            positive = label > 0
            samples.append(RoISamples(own[positive], label[positive] - 1, target[positive]))
        return losses, samples

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

    def _box_losses(
        self, logits: Tensor, deltas: Tensor, labels: Tensor, moves: Tensor
    ) -> dict[str, Tensor]:
        positive = torch.where(labels > 0)[0]
        own = deltas.unflatten(1, (-1, 4))[positive, labels[positive]]
        error = F.smooth_l1_loss(own, moves[positive], beta=self.box_beta, reduction="sum")
        return {
            "loss_class": F.cross_entropy(logits, labels),
            "loss_box": error / labels.numel(),
        }

    @torch.no_grad()
    def _refined(self, boxes: list[Tensor], labels: list[Tensor], deltas: Tensor) -> list[Tensor]:
        """The boxes as the box head regresses them for their true classes."""
        moved = self.roi_heads.box_coder.decode(deltas, boxes)
        label = torch.cat(labels)
        own = moved[torch.arange(len(label), device=label.device), label]
        return list(own.split([len(of) for of in boxes]))


class _ProposalNetwork(RegionProposalNetwork):
    """With any error of boxes."""

    box_beta = 1 / 9  #: below this, errors are squared

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """torchvision's, but for ``box_beta``: losses of objectness and boxes."""
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
    """Anchors in float32, whatever the precision of the features: bfloat16 would round them."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


class _StrideAnchors(_Anchors):
    """Anchors whose sides are not rounded, in steps of the strides whatever the image's size."""

    def __init__(
        self,
        strides: Sequence[int],
        sizes: tuple[tuple[int, ...], ...],
        aspect_ratios: tuple[tuple[float, ...], ...],
    ) -> None:
        super().__init__(sizes, aspect_ratios)
        self.strides = strides

    def generate_anchors(self, scales: Sequence[int], aspect_ratios: Sequence[float]) -> Tensor:
        root = torch.tensor(aspect_ratios).sqrt()
        half = torch.stack([1 / root, root], dim=1) * scales[0] / 2
        return torch.cat([-half, half], dim=1)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        steps: list[Any] = [[stride, stride] for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([list(m.shape[-2:]) for m in feature_maps], steps))
        return [anchors] * len(image_list.image_sizes)


class _RPNHead(RPNHead):
    """With float32 outputs, since boxes are decoded in their precision."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]
