"""Detectors that predict class, box and mask of a region together, and let masks vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
    """Outputs for N regions of a batch."""

    class_logits: Tensor  #: N×(C+1), background first
    moves: Tensor  #: N×4, from the region to the box of its object, whatever the class
    mask_logits: Tensor  #: N×C×R×R, or N×1×R×R if masks do not depend on the class

    def by_image(self, counts: list[int]) -> list[RegionOutputs]:
        """Outputs for so many regions of each image."""
        parts = zip(*(values.split(counts) for values in self), strict=True)
        return [RegionOutputs(*part) for part in parts]


class View(NamedTuple):
    """A batch whose images were scaled, and then mirrored."""

    scale: float
    width: int  #: of the scaled images, with padding, in pixels
    maps: Any  #: what the outputs of regions are computed from
    mirrored: Any  #: the same of the mirror images


class VotingDetector(RegionDetector):
    """Region proposals, and outputs for them, which subclasses predict and train.

    The scheme is MNC's (Dai et al., CVPR 2016): proposals, and then the boxes that they are moved
    to, are classified and segmented. Non-maximum suppression selects among all of them.
    """

    side = 224  #: see ``detect``

    def maps(self, features: Features) -> Any:
        """What the outputs of all regions are computed from."""
        return features

    def regions(self, maps: Any, boxes: list[Tensor]) -> RegionOutputs:
        """Outputs for N regions, given per image in network-input pixels."""
        raise NotImplementedError

    def detect(
        self, features: Features, batch: ImageBatch, views: Sequence[View] = ()
    ) -> list[Detections]:
        """Detections of each image; their coefficients are the R² probabilities of the mask.

        With views, the features are for proposals only. Each region is predicted from the view
        that brings its area nearest to ``side``² pixels, and from its mirror image, and the outputs
        are averaged.
        """
        boxes, _ = self._propose(features, batch)
        regions: Callable[[list[Tensor]], RegionOutputs] = partial(self._from_views, views)
        if not views:
            regions = partial(self.regions, self.maps(features))
        first = regions(boxes)
        moved = self.moved(boxes, first.moves, batch)
        second = regions(moved)
        counts = [len(own) for own in boxes]
        images = zip(boxes, moved, first.by_image(counts), second.by_image(counts), strict=True)
        return [
            self._voted(torch.cat([one, two]), *map(torch.cat, zip(*outputs, strict=True)))
            for one, two, *outputs in images
        ]

    def _from_views(self, views: Sequence[View], boxes: list[Tensor]) -> RegionOutputs:
        every = torch.cat(boxes)
        areas = (every[:, 2:] - every[:, :2]).prod(1, keepdim=True)
        scaled = areas * areas.new_tensor([view.scale for view in views]).square()
        best = (scaled - self.side**2).abs().argmin(1)
        pairs = list(zip(boxes, best.split([len(own) for own in boxes]), strict=True))
        found, rows = [], []
        for number, view in enumerate(views):
            own = [box[which == number] * view.scale for box, which in pairs]
            plain = self.regions(view.maps, own)
            edges, sign = every.new_tensor([[view.width, 0, view.width, 0], [-1, 1, -1, 1]])
            flipped = [(edges + sign * box)[:, [2, 1, 0, 3]] for box in own]
            logits, moves, masks = self.regions(view.mirrored, flipped)
            back = logits, moves * moves.new_tensor([-1, 1, 1, 1]), masks.flip(-1)
            found.append([(one + two) / 2 for one, two in zip(plain, back, strict=True)])
            rows.append((best == number).nonzero()[:, 0])
        order = torch.cat(rows).argsort()
        return RegionOutputs(*(torch.cat(values)[order] for values in zip(*found, strict=True)))

    def _voted(
        self, boxes: Tensor, class_logits: Tensor, _moves: Tensor, mask_logits: Tensor
    ) -> Detections:
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
        """Regions, given per image, as they are moved, clipped to their images."""
        decoded = self.roi_heads.box_coder.decode(moves, boxes).reshape(-1, 4)
        parts = decoded.split([len(own) for own in boxes])
        return [clip_boxes_to_image(*pair) for pair in zip(parts, batch.sizes, strict=True)]

    def region_losses(
        self, outputs: RegionOutputs, boxes: list[Tensor], targets: list[Targets]
    ) -> Tensor:
        """Losses of N regions, given per image: of class, box and mask, N×3.

        Regions with an IoU of 0.5 or more are on an object; the last two are 0 for others.
        """
        boxes = [own.detach() for own in boxes]
        index, labels = self.roi_heads.assign_targets_to_proposals(
            boxes, [t.boxes for t in targets], [t.labels + 1 for t in targets]
        )
        moves, truths, size = [], [], outputs.mask_logits.shape[-1]
        for own, target, label, rows in zip(boxes, targets, labels, index, strict=True):
            own, rows = own[label > 0], rows[label > 0]
            moves.append(self.roi_heads.box_coder.encode_single(target.boxes[rows], own))
            truths.append(crop_masks(target.masks, own, size, index=rows))
        every = torch.cat(labels)
        positive = every > 0
        masks = own_masks(outputs.mask_logits[positive], every[positive] - 1)
        each = torch.zeros_like(outputs.moves[:, :3])
        each[:, 0] = F.cross_entropy(outputs.class_logits, every, reduction="none")
        error = F.smooth_l1_loss(
            outputs.moves[positive], torch.cat(moves), beta=self.box_beta, reduction="none"
        )
        each[positive, 1], each[positive, 2] = error.sum(1), mask_bce(masks, torch.cat(truths))
        return each


def mean_losses(losses: Tensor) -> dict[str, Tensor]:
    """Means of N×3 ``region_losses`` by name: of masks over regions on objects, else over all."""
    total, count = losses.sum(0), max(len(losses), 1)
    objects = even_share((losses[:, 2] > 0).sum())
    return {
        "loss_class": total[0] / count,
        "loss_box": total[1] / count,
        "loss_mask": total[2] / objects,
    }


def own_masks(masks: Tensor, labels: Tensor) -> Tensor:
    """Select the masks of N labels from N×C×R×R, or of any class from N×1×R×R: N×R×R."""
    return of_class(masks, labels.clamp(max=masks.shape[1] - 1))


def vote_masks(
    masks: Tensor, boxes: Tensor, scores: Tensor, rows: Tensor, labels: Tensor
) -> Tensor:
    """Average the masks of the regions around each detection, weighted by their scores (MNC §4).

    These are all whose IoU with the detection is 0.5 or more. A mask is 0 beyond its region.

    Args:
        masks: M×C×R×R probabilities over the regions, or M×1×R×R.
        boxes: M×4, the regions.
        scores: M×C, theirs.
        rows: N int64, regions of the detections.
        labels: N int64, theirs.

    Returns:
        N×R×R in [0, 1], over the regions of the detections.
    """
    size = masks.shape[-1]
    detection, voter = (box_iou(boxes[rows], boxes) >= 0.5).nonzero().unbind(1)
    weights = scores[voter, labels[detection]]
    centres = (torch.arange(size, device=boxes.device) + 0.5) / size
    start, side = boxes[rows, :2, None], (boxes[rows, 2:] - boxes[rows, :2])[..., None]
    along, down = (start + side * centres - 0.5).unbind(1)
    votes = masks.new_zeros(len(rows), size, size)
    for part in portions(0, len(voter), cells=size**2):
        of, by = detection[part], voter[part]
        seen = sample_rois(own_masks(masks[by], labels[of]), boxes[by], down[of], along[of])
        votes.index_add_(0, of, weights[part, None, None] * seen)
    total = scores.new_zeros(len(rows)).index_add_(0, detection, weights)
    return votes / total[:, None, None]
