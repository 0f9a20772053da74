"""Detectors that predict class, box and mask of a region together, and let masks vote.

The scheme is MNC's (Dai et al., CVPR 2016): proposals, and again the boxes that they are moved to,
are classified and segmented. Of all of them, non-maximum suppression selects the detections, and
the mask of a detection is the average of those of the boxes around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from b2inst.losses import mask_bce
from b2inst.modules.faster_rcnn import RegionDetector
from b2inst.ops.distributed import even_share
from b2inst.ops.frame_masks import portions
from b2inst.ops.masks import crop_masks, sample_rois
from b2inst.structures import Detections, Features, ImageBatch, Targets, of_class


class RegionOutputs(NamedTuple):
    """Outputs for N boxes of a batch."""

    class_logits: Tensor  #: N×(C+1), background first
    moves: Tensor  #: N×4, from the box to that of its object, whatever the class
    mask_logits: Tensor  #: N×C×R×R, or N×1×R×R if masks do not depend on the class


class RegionLosses(NamedTuple):
    """Losses of N boxes."""

    classes: Tensor  #: N
    boxes: Tensor  #: N, 0 for background
    masks: Tensor  #: N, 0 for background
    positive: Tensor  #: N bool

    def mean(self) -> dict[str, Tensor]:
        """Mean by name: of classes and boxes over all, of masks over the boxes on objects."""
        count = max(len(self.classes), 1)
        return {
            "loss_class": self.classes.sum() / count,
            "loss_box": self.boxes.sum() / count,
            "loss_mask": self.masks.sum() / even_share(self.positive.sum()),
        }


class VotingDetector(RegionDetector):
    """A two-stage model but for the backbone; subclasses implement ``regions`` and ``loss``."""

    def shared(self, features: Features) -> Any:
        """What the outputs of all regions of a batch are computed from."""
        return features

    def regions(self, shared: Any, boxes: list[Tensor]) -> RegionOutputs:
        """Outputs for N boxes, given per image in network-input pixels."""
        raise NotImplementedError

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Losses by name."""
        raise NotImplementedError

    def detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        """Detections of each image; their coefficients are the R² probabilities of the mask."""
        shared = self.shared(features)
        proposals, _ = self._propose(features, batch)
        return self._detect(lambda boxes: self.regions(shared, boxes), proposals, batch)

    def _detect(
        self,
        regions: Callable[[list[Tensor]], RegionOutputs],
        boxes: list[Tensor],
        batch: ImageBatch,
    ) -> list[Detections]:
        first = regions(boxes)
        moved = self.moved(boxes, first.moves, batch)
        second = regions(moved)
        counts = [len(own) for own in boxes]
        images = zip(
            boxes,
            moved,
            *(values.split(counts) for values in (first.class_logits, second.class_logits)),
            *(values.split(counts) for values in (first.mask_logits, second.mask_logits)),
            strict=True,
        )
        return [
            self._voted(torch.cat(image[:2]), torch.cat(image[2:4]), torch.cat(image[4:]))
            for image in images
        ]

    def _voted(self, boxes: Tensor, class_logits: Tensor, mask_logits: Tensor) -> Detections:
        """Detections of an image by its regions."""
        large = remove_small_boxes(boxes, 1e-2)
        boxes, masks = boxes[large], mask_logits[large].sigmoid()
        scores = class_logits[large].softmax(1)[:, 1:]
        rows, labels = (scores > self.score_threshold).nonzero().unbind(1)
        best = scores[rows, labels]
        kept = batched_nms(boxes[rows], best, labels, self.roi_heads.nms_thresh)
        kept = kept[: self.max_detections]
        rows, labels = rows[kept], labels[kept]
        voted = vote_masks(masks, boxes, scores, rows, labels)
        return Detections(boxes[rows], best[kept], labels, voted.flatten(1))

    def moved(self, boxes: list[Tensor], moves: Tensor, batch: ImageBatch) -> list[Tensor]:
        """The boxes that N boxes, given per image, are moved to, clipped to their images."""
        decoded = self.roi_heads.box_coder.decode(moves, boxes).reshape(-1, 4)
        parts = decoded.split([len(own) for own in boxes])
        return [clip_boxes_to_image(*pair) for pair in zip(parts, batch.sizes, strict=True)]

    def region_losses(
        self, outputs: RegionOutputs, boxes: list[Tensor], targets: list[Targets]
    ) -> RegionLosses:
        """Losses of N boxes, given per image; one is on an object if their IoU is 0.5 or more."""
        labels, moves, truths = self._assign(boxes, targets, outputs.mask_logits.shape[-1])
        positive = labels > 0
        error = F.smooth_l1_loss(outputs.moves, moves, beta=self.box_beta, reduction="none")
        own = masks_of_class(outputs.mask_logits[positive], labels[positive] - 1)
        masks = torch.zeros_like(error[:, 0])
        masks[positive] = mask_bce(own, truths)
        return RegionLosses(
            classes=F.cross_entropy(outputs.class_logits, labels, reduction="none"),
            boxes=torch.where(positive, error.sum(1), 0),
            masks=masks,
            positive=positive,
        )

    @torch.no_grad()
    def _assign(
        self, boxes: list[Tensor], targets: list[Targets], size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class of each box, 0 for background, the way to its object, and the objects' masks."""
        truths = [t.boxes if len(t) else t.boxes.new_zeros(1, 4) for t in targets]
        index, labels = self.roi_heads.assign_targets_to_proposals(
            boxes, [t.boxes for t in targets], [t.labels + 1 for t in targets]
        )
        objects = [own[rows] for own, rows in zip(truths, index, strict=True)]
        moves = torch.cat(self.roi_heads.box_coder.encode(objects, boxes))
        masks = [
            crop_masks(t.masks, own[label > 0], size, index=rows[label > 0])
            for t, own, label, rows in zip(targets, boxes, labels, index, strict=True)
        ]
        label = torch.cat(labels)
        return label, moves.where((label > 0)[:, None], 0), torch.cat(masks)


def masks_of_class(masks: Tensor, labels: Tensor) -> Tensor:
    """Select the masks of N labels from N×C×R×R, or those of any class from N×1×R×R: N×R×R."""
    return of_class(masks, labels.clamp(max=masks.shape[1] - 1))


def vote_masks(
    masks: Tensor, boxes: Tensor, scores: Tensor, rows: Tensor, labels: Tensor
) -> Tensor:
    """Average the masks of the boxes around each detection, weighted by their scores (MNC §4).

    These are the boxes whose IoU with the detection is 0.5 or more; they need not be detections.
    A mask is 0 beyond its box.

    Args:
        masks: M×C×R×R probabilities in [0, 1] over the boxes, or M×1×R×R.
        boxes: M×4.
        scores: M×C.
        rows: N int64, the box of each detection.
        labels: N int64, its class, whose masks and scores count.

    Returns:
        N×R×R in [0, 1], over the boxes of the detections.
    """
    size = masks.shape[-1]
    detection, voter = (box_iou(boxes[rows], boxes) >= 0.5).nonzero().unbind(1)
    weights = scores[voter, labels[detection]]
    centres = (torch.arange(size, device=boxes.device) + 0.5) / size
    start, side = boxes[rows, :2], boxes[rows, 2:] - boxes[rows, :2]
    along, down = (start[..., None] + side[..., None] * centres - 0.5).unbind(1)
    votes = masks.new_zeros(len(rows), size, size)
    for part in portions(0, len(voter), cells=size**2):
        of, by = detection[part], voter[part]
        own = masks_of_class(masks[by], labels[of])
        seen = sample_rois(own, boxes[by], down[of], along[of])
        votes.index_add_(0, of, weights[part, None, None] * seen)
    total = scores.new_zeros(len(rows)).index_add_(0, detection, weights)
    return votes / total[:, None, None]
