"""Parts of FCIS (Li et al., CVPR 2017): classes and masks from the same score maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from b2inst.modules.layers import NormLayer, initialise
from b2inst.modules.mask_voting import RegionLosses, RegionOutputs, VotingDetector
from b2inst.ops.position_sensitive import assemble_regions
from b2inst.structures import Detections, Features, ImageBatch, Targets


class ScoreMaps(NamedTuple):
    """Position-sensitive maps of a batch, of k×k parts of a region."""

    scores: Tensor  #: B×(2·(C+1)·k²)×h×w, inside and outside objects of each class
    moves: Tensor  #: B×(4·k²)×h×w


class View(NamedTuple):
    """Features of a batch whose images were scaled, and of their mirror images."""

    scale: float
    width: int  #: of the scaled images, with padding, in pixels
    features: Features
    mirrored: Features


class FCISDetector(VotingDetector):
    """Detection and segmentation by position-sensitive inside and outside score maps.

    Args:
        num_classes: C.
        stride: Level that the score maps are computed from.
        channels: Width of the convolution before them.
        norm: Builds a norm after it; published without.
        parts: k, parts of a region along a side.
        mask_size: R, a multiple of k.
        hard_samples: Regions per image to train on, those of the largest losses.
        side: See ``detect``.
        proposals: Other arguments of ``RegionDetector``.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        stride: int,
        channels: int = 1024,
        norm: NormLayer | None = None,
        parts: int = 7,
        mask_size: int = 21,
        hard_samples: int = 128,
        side: int = 224,
        **proposals: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, nms_threshold=0.3, **proposals)
        self.stride = stride
        self.parts = parts
        self.mask_size = mask_size
        self.hard_samples = hard_samples
        self.side = side
        self.conv = Conv2dNormActivation(in_channels, channels, norm_layer=norm)
        self.scores = nn.Conv2d(channels, 2 * (num_classes + 1) * parts**2, 1)
        self.moves = nn.Conv2d(channels, 4 * parts**2, 1)
        for layer in (self.conv, self.scores, self.moves):
            initialise(layer, partial(nn.init.normal_, std=0.01))

    def shared(self, features: Features) -> ScoreMaps:
        """Score maps of a batch."""
        x = self.conv(features[self.stride])
        return ScoreMaps(self.scores(x), self.moves(x))

    def regions(self, shared: ScoreMaps, boxes: list[Tensor]) -> RegionOutputs:
        """Outputs for N boxes; see ``joint_logits`` for classes and masks."""
        image = torch.cat([own.new_full((len(own), 1), i) for i, own in enumerate(boxes)])
        rois, scale = torch.cat([image, torch.cat(boxes)], dim=1), 1 / self.stride
        scores = assemble_regions(shared.scores, rois, self.parts, self.mask_size, scale)
        moves = assemble_regions(shared.moves, rois, self.parts, self.parts, scale)
        classes, masks = joint_logits(*scores.chunk(2, dim=1))
        return RegionOutputs(classes, moves.mean((2, 3)), masks)

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Losses by name, of the hardest proposals (online hard example mining)."""
        proposals, losses = self._propose(features, batch, self._truths(targets))
        boxes = [torch.cat([own, t.boxes]) for own, t in zip(proposals, targets, strict=True)]
        outputs = self.regions(self.shared(features), boxes)
        each = self.region_losses(outputs, boxes, targets)
        total = (each.classes + each.boxes + each.masks).detach()
        counts = [len(own) for own in boxes]
        first = torch.tensor([0, *counts]).cumsum(0).tolist()
        hard = torch.cat(
            [
                own.topk(min(self.hard_samples, len(own))).indices + start
                for own, start in zip(total.split(counts), first, strict=False)
            ]
        )
        return losses | RegionLosses(*(values[hard] for values in each)).mean()

    def detect(
        self, features: Features, batch: ImageBatch, views: Sequence[View] = ()
    ) -> list[Detections]:
        """Detections of each image; see ``VotingDetector``.

        Args:
            views: If any, only proposals are predicted from ``features``. Each region is predicted
                from the view that brings its area nearest to ``side``² pixels, and from its mirror
                image, and the outputs are averaged (FCIS++, FCIS §4.3).
        """
        if not views:
            return super().detect(features, batch)
        proposals, _ = self._propose(features, batch)
        maps = [(self.shared(view.features), self.shared(view.mirrored)) for view in views]
        return self._detect(partial(self._read, views, maps), proposals, batch)

    def _read(
        self,
        views: Sequence[View],
        maps: list[tuple[ScoreMaps, ScoreMaps]],
        boxes: list[Tensor],
    ) -> RegionOutputs:
        """Outputs for N boxes, each from one of the views and its mirror image."""
        best = best_scales(torch.cat(boxes), [view.scale for view in views], self.side)
        chosen = best.split([len(own) for own in boxes])
        found, rows = [], []
        for number, (view, (plain, mirrored)) in enumerate(zip(views, maps, strict=True)):
            pairs = zip(boxes, chosen, strict=True)
            scaled = [own[scale == number] * view.scale for own, scale in pairs]
            outputs = self.regions(plain, scaled)
            other = self.regions(mirrored, [mirrored_boxes(own, view.width) for own in scaled])
            averaged = zip(outputs, mirrored_outputs(other), strict=True)
            found.append([(one + two) / 2 for one, two in averaged])
            rows.append((best == number).nonzero()[:, 0])
        order = torch.cat(rows).argsort()
        return RegionOutputs(*(torch.cat(values)[order] for values in zip(*found, strict=True)))


def joint_logits(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Classes and masks of N regions by the same scores (FCIS §2.2).

    A cell belongs to a region of a class if one of its two scores is high, and to the object if it
    is the one inside. A softmax over both scores is the sigmoid of their difference.

    Args:
        inside, outside: N×(C+1)×R×R, background first.

    Returns:
        Class logits N×(C+1) and mask logits N×C×R×R.
    """
    return torch.maximum(inside, outside).mean((2, 3)), (inside - outside)[:, 1:]


def best_scales(boxes: Tensor, scales: Sequence[float], side: int) -> Tensor:
    """Which scale brings the area of each of N boxes nearest to side² pixels, N int64."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1, keepdim=True)
    return (areas * areas.new_tensor(scales).square() - side**2).abs().argmin(1)


def mirrored_boxes(boxes: Tensor, width: float) -> Tensor:
    """N×4 boxes of an image in its mirror image."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def mirrored_outputs(outputs: RegionOutputs) -> RegionOutputs:
    """Outputs for boxes by those for their mirror images."""
    moves = outputs.moves * outputs.moves.new_tensor([-1, 1, 1, 1])
    return RegionOutputs(outputs.class_logits, moves, outputs.mask_logits.flip(-1))
