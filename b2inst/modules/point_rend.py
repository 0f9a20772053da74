"""The mask head of PointRend (Kirillov et al., CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from b2inst.modules.layers import NormLayer, RoIPooler, initialise, mlp
from b2inst.modules.mask_heads import KAIMING, class_mask_loss, sample_masks
from b2inst.structures import Features, RoIOutputs, RoISamples, Targets, of_class


@dataclass
class RenderedMasks:
    """Coarse masks of N boxes, which are refined once their classes are selected."""

    head: PointRendHead
    features: Features
    boxes: list[Tensor]  #: per image, in network-input pixels
    coarse: RoIOutputs

    def of_class(self, labels: Tensor) -> Tensor:
        """Mask logits of one class each, N×R×R.

        The first resolution has no more cells than ``test_points``, and all are computed. It is
        doubled until it is R, and the cells nearest to 0 are computed each time.
        """
        head, size = self.head, self.head.coarse_size
        while (2 * size) ** 2 <= head.test_points and size < head.roi_size:
            size *= 2
        cells = torch.arange(size**2, device=labels.device).expand(len(labels), -1)

        def logits_at(cells: Tensor) -> Tensor:
            points = points_of_cells(cells, size)
            every = head.point_logits(self.features, self.boxes, self.coarse.logits, points)
            return of_class(every, labels)

        masks = logits_at(cells).unflatten(1, (size, size))
        while size < head.roi_size:
            size *= 2
            masks = F.interpolate(masks[:, None], (size, size), mode="bilinear").flatten(1)
            cells = least_certain(masks, head.test_points)
            masks = masks.scatter(1, cells, logits_at(cells)).unflatten(1, (size, size))
        return masks


class PointRendHead(nn.Module):
    """A coarse mask in each box, refined at the points where it is least certain.

    Both parts read the finest level only, at points of a box.

    Args:
        pooler: Has the stride of the finest level, and twice the size of coarse masks.
        channels: Width of the convolution and of the point head.
        hidden: Width of the fully connected layers of the coarse head.
        norm: Builds a norm after its convolution; these then have layer norms. Published without.
        train_points: Points of a box to train the point head on, three quarters of them the least
            certain ones of three times as many.
        test_points: Points to refine at each resolution.
        roi_size: R, side of rendered masks in cells: a coarse mask's times a power of 2.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooler: RoIPooler,
        channels: int = 256,
        hidden: int = 1024,
        norm: NormLayer | None = None,
        train_points: int = 196,
        test_points: int = 784,
        roi_size: int = 224,
    ) -> None:
        super().__init__()
        self.stride, self.coarse_size = pooler.strides[0], pooler.size // 2
        self.train_points, self.test_points, self.roi_size = train_points, test_points, roi_size
        self.reduce = Conv2dNormActivation(
            in_channels, channels, 2, stride=2, padding=0, norm_layer=norm
        )
        cells, norm_hidden = self.coarse_size**2, nn.LayerNorm if norm else nn.Identity
        layers = mlp(channels * cells, hidden, num_classes * cells, norm=norm_hidden)
        self.coarse = nn.Sequential(nn.Flatten(), *layers)
        self.point_head = PointHead(in_channels, num_classes, channels)
        initialise(self.reduce, KAIMING)
        initialise(self.coarse, partial(nn.init.kaiming_uniform_, a=1))
        nn.init.normal_(self.coarse[-1].weight, std=0.001)  # type: ignore[arg-type]

    def forward(self, features: Features, boxes: list[Tensor]) -> RenderedMasks:
        """Masks of N boxes, given per image in network-input pixels."""
        size = 2 * self.coarse_size
        cells = torch.arange(size**2, device=boxes[0].device)
        points = points_of_cells(cells, size).expand(sum(map(len, boxes)), -1, -1)
        pooled = self.features_at(features, boxes, points).mT.unflatten(2, (size, size))
        logits = self.coarse(self.reduce(pooled)).float()
        coarse = logits.unflatten(1, (-1, self.coarse_size, self.coarse_size))
        return RenderedMasks(self, features, boxes, RoIOutputs(pooled, coarse))

    def point_logits(
        self, features: Features, boxes: list[Tensor], coarse: Tensor, points: Tensor
    ) -> Tensor:
        """Mask logits of all classes at points of N boxes (N×P×2, fractions of these): N×K×P."""
        fine = self.features_at(features, boxes, points)
        return self.point_head(fine, map_points(coarse, points)).float().mT

    def loss(
        self, outputs: RenderedMasks, samples: list[RoISamples], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Mean cross-entropy of coarse masks, and of points with labels between pixels' ones."""
        coarse = outputs.coarse.logits
        labels, crops = sample_masks(coarse, samples, targets)
        points = self._training_points(of_class(coarse, labels).detach())
        logits = self.point_logits(outputs.features, outputs.boxes, coarse, points)
        per_image = points.split([len(s) for s in samples])
        truths = [
            sample_mask_points(t.masks, s.target_index, place_points(at, s.boxes))
            for s, t, at in zip(samples, targets, per_image, strict=True)
        ]
        return {
            "loss_mask": class_mask_loss(coarse, labels, crops),
            "loss_point": class_mask_loss(logits, labels, torch.cat(truths)),
        }

    @torch.no_grad()
    def _training_points(self, coarse: Tensor) -> Tensor:
        """Points of N boxes by their N×r×r logits: the least certain ones, then random ones."""
        points = uniform_points(len(coarse), 3 * self.train_points, coarse.device)
        uncertain = 3 * self.train_points // 4
        chosen = least_certain(map_points(coarse[:, None], points)[..., 0], uncertain)
        others = uniform_points(len(coarse), self.train_points - uncertain, coarse.device)
        return torch.cat([points.take_along_dim(chosen[..., None], 1), others], dim=1)

    def features_at(self, features: Features, boxes: list[Tensor], points: Tensor) -> Tensor:
        """Features of the finest level at points N×P×2 of N boxes, as fractions: N×P×C."""
        maps = features[self.stride]
        extent = maps.new_tensor([maps.shape[3], maps.shape[2]], dtype=torch.float32) * self.stride
        found = []
        for level, own, at in zip(maps, boxes, points.split([len(b) for b in boxes]), strict=True):
            where = place_points(at, own).flatten(0, 1) / extent
            found.append(map_points(level[None], where[None])[0].unflatten(0, at.shape[:2]))
        return torch.cat(found)


class PointHead(nn.Module):
    """A perceptron of all points: three hidden layers, which all see the coarse logits again."""

    def __init__(self, in_channels: int, num_classes: int, channels: int) -> None:
        super().__init__()
        widths = [in_channels, channels, channels]
        self.layers = nn.ModuleList(nn.Linear(w + num_classes, channels) for w in widths)
        self.predictor = nn.Linear(channels + num_classes, num_classes)
        initialise(self.layers, KAIMING)
        initialise(self.predictor, partial(nn.init.normal_, std=0.001))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Logits N×P×K of features N×P×C and coarse logits N×P×K."""
        x = fine
        for layer in self.layers:
            x = F.relu(layer(torch.cat([x, coarse], dim=2)))
        return self.predictor(torch.cat([x, coarse], dim=2))


def uniform_points(boxes: int, points: int, device: torch.device) -> Tensor:
    """Random points, N×P×2, x and y in [0, 1)."""
    return torch.rand(boxes, points, 2, device=device)


def points_of_cells(cells: Tensor, size: int) -> Tensor:
    """Centres of the cells of a size×size grid, numbered row by row: …×2, x and y in [0, 1]."""
    return (torch.stack([cells % size, cells // size], dim=-1).float() + 0.5) / size


def place_points(points: Tensor, boxes: Tensor) -> Tensor:
    """Pixels x y of points N×P×2 that are given as fractions of N boxes: N×P×2."""
    return boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])


def least_certain(logits: Tensor, count: int) -> Tensor:
    """Indices N×count of the logits (N×M) nearest to 0, these first."""
    return logits.abs().topk(count, largest=False).indices


def map_points(maps: Tensor, points: Tensor) -> Tensor:
    """Interpolate maps (N×C×h×w), zero outside, at points (N×P×2, fractions of the map): N×P×C."""
    grid = (2 * points - 1)[:, None]
    return F.grid_sample(maps.float(), grid, align_corners=False)[:, :, 0].mT


def sample_mask_points(masks: Tensor, index: Tensor, points: Tensor) -> Tensor:
    """Interpolate masks (M×H×W), zero outside, at points N×P×2 in pixels of mask ``index`` (N)."""
    height, width = masks.shape[1:]
    x, y = (points - 0.5).unbind(-1)
    left, top = x.floor(), y.floor()
    found = torch.zeros_like(x)
    for column in (left, left + 1):
        for row in (top, top + 1):
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            at = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            found += torch.where(inside, weight * masks[index[:, None], *at], 0)
    return found
