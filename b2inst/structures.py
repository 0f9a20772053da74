"""Data structures that are passed between the parts of a segmenter.

Shape letters in all docstrings of the package: B images of a batch, N instances of an image or
batch, P positive positions, K bases, D coefficients per position, C channels or classes, L levels,
H×W image, h×w basis grid, R RoI resolution, A attention size.

Boxes are float32 ``x1 y1 x2 y2`` in pixels, x2 and y2 exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from b2inst.ops.frame_masks import pixel_centres, sample_grid, windows_above
from b2inst.ops.masks import paste_masks, sample_rois

#: Feature maps by stride: ``{8: B×C×H/8×W/8, 16: …}``, in ascending order of stride.
Features = dict[int, Tensor]


class _Movable:
    """A dataclass whose tensors are moved together; it equals only itself."""

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str) -> Self:
        """Move all tensors to a device."""
        moved = {name: value.to(device) for name, value in self._tensors().items()}
        return replace(self, **moved)  # type: ignore[type-var]


class _PerInstance(_Movable):
    """A dataclass whose tensors have the instances as first dimension, or no dimension."""

    def __len__(self) -> int:
        return len(next(iter(self._tensors().values())))

    def __getitem__(self, index: Tensor | slice | int) -> Self:
        """Select instances with a boolean mask, an index tensor or a slice; one with an integer."""
        if hasattr(index, "__index__") and not getattr(index, "ndim", 0):
            index = torch.tensor([range(len(self))[index]])  # an IndexError ends a loop
        picked = {name: value[index] for name, value in self._tensors().items() if value.ndim}
        return replace(self, **picked)  # type: ignore[type-var]


@dataclass(eq=False)
class Targets(_Movable):
    """Ground truth of one image, in pixels of the network's input (resized, not padded).

    Crowds are not instances and only in ``semantic`` and ``crowds``.
    """

    image_id: int
    boxes: Tensor  #: N×4 float32
    labels: Tensor  #: N int64, contiguous, 0-based
    masks: Tensor  #: N×H×W uint8, 0 or 1
    semantic: Tensor  #: H×W integers, 0 background, else class index + 1; later annotations on top
    crowds: Tensor | None = None  #: M×4 float32, boxes of crowds, if known

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(eq=False)
class ImageBatch(_Movable):
    """Normalised images, zero-padded at the right and bottom to one size."""

    images: Tensor  #: B×3×H×W float
    sizes: list[tuple[int, int]]  #: (height, width) of each image before padding


@dataclass(eq=False)
class Positives(_PerInstance):
    """Positions of the instance head whose masks are trained."""

    image_index: Tensor  #: P int64, image in the batch
    target_index: Tensor  #: P int64, row in the concatenation of the batch's targets
    coefficients: Tensor  #: P×D
    weights: Tensor  #: P float in [0, 1], how central each position is to its target
    weight_sum: Tensor | float  #: divisor of the sum of mask losses (mean over devices)
    scores: Tensor | None = None  #: P in [0, 1], scores, if the head predicts them


@dataclass(eq=False)
class RoISamples(_PerInstance):
    """Boxes of one image whose masks are trained, without gradient."""

    boxes: Tensor  #: P×4, in network-input pixels
    labels: Tensor  #: P int64, of the object
    target_index: Tensor  #: P int64, row in the image's targets


@dataclass(eq=False)
class RoIOutputs:
    """Outputs of a mask head for N boxes."""

    pooled: Tensor  #: N×C×R/2×R/2, input features
    logits: Tensor  #: N×K×R×R, a mask for each of K classes
    boundary_logits: Tensor | None = None  #: N×K×R×R, boundaries, if predicted

    def of_class(self, labels: Tensor) -> Tensor:
        """Select the mask logits of one class each, N×R×R."""
        return of_class(self.logits, labels)


def of_class(maps: Tensor, labels: Tensor) -> Tensor:
    """Select the maps of N labels from N×K×… maps: N×…, float32."""
    return maps[torch.arange(len(labels), device=labels.device), labels].float()


@dataclass(eq=False)
class Bases(_Movable):
    """Global bases of a batch; the boundary basis, if any, is the last of ``maps``."""

    maps: Tensor  #: B×K×h×w, unbounded
    stride: float  #: input pixels per cell of the basis grid
    boundary_logits: Tensor | None = None  #: B×1×h×w, supervised boundary before the sigmoid


@dataclass(eq=False)
class Masks(_PerInstance):
    """Soft masks of N instances, as an assembler predicts them."""

    probabilities: Tensor  #: N×…, in [0, 1]
    boxes: Tensor  #: N×4, in network-input pixels

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Read each mask at its own pixels: N×h rows and N×w columns to N×h×w bool."""
        raise NotImplementedError

    def resized(self, size: int) -> Tensor:
        """Resample the masks inside their boxes: N×size×size probabilities."""
        raise NotImplementedError

    def paste(self, boxes: Tensor, size: tuple[int, int], frame: tuple[int, int]) -> Tensor:
        """Paste the masks into an image of a (height, width), ``frame`` in the network's input.

        Boxes are N×4 in pixels of the image; returns N×H×W bool.
        """
        raise NotImplementedError


class RoIMasks(Masks):
    """Masks N×R×R over their boxes; a pixel belongs to a mask if its probability is >= 0.5."""

    def resized(self, size: int) -> Tensor:
        return F.adaptive_avg_pool2d(self.probabilities, size)  # exact for divisors of R

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        return sample_rois(self.probabilities, self.boxes, rows, columns) >= 0.5

    def paste(self, boxes: Tensor, size: tuple[int, int], frame: tuple[int, int]) -> Tensor:
        return paste_masks(self.probabilities, boxes, size)


@dataclass(eq=False)
class WindowMasks:
    """Masks of any sizes over windows, not boxes; a pixel belongs to a mask if it is >= 0.5."""

    probabilities: list[Tensor]  #: N masks, in [0, 1]
    windows: Tensor  #: N×4

    def __getitem__(self, index: Tensor | slice) -> Self:
        rows = torch.arange(len(self.windows), device=self.windows.device)[index]
        chosen = [self.probabilities[row] for row in rows]
        return replace(self, probabilities=chosen, windows=self.windows[rows])

    def paste(self, boxes: Tensor, size: tuple[int, int], frame: tuple[int, int]) -> Tensor:
        windows = self.windows * boxes.new_tensor([size[1] / frame[1], size[0] / frame[0]] * 2)
        masks = torch.zeros((len(windows), *size), dtype=torch.bool, device=boxes.device)
        for mask, soft, window in zip(masks, self.probabilities, windows, strict=True):
            mask[:] = paste_masks(soft[None], window[None], size)[0]
        return masks


@dataclass(eq=False)
class FrameMasks(Masks):
    """Masks N×h×w on a grid over the network's input; a pixel belongs to a mask if it is > 0.5.

    Linear between cells, and constant beyond the grid. They may extend beyond their boxes.
    """

    stride: float  #: input pixels per cell
    origin: float  #: x and y of the first cell's centre, in input pixels

    def resized(self, size: int) -> Tensor:
        index = torch.arange(len(self), device=self.boxes.device)[:, None]
        boxes = self.boxes - (self.origin - self.stride / 2)  # RoIAlign's first cell ends at stride
        rois = torch.cat([index.to(boxes), boxes], dim=1)
        maps = self.probabilities[:, None]
        return roi_align(maps, rois, size, 1 / self.stride, sampling_ratio=2, aligned=True)[:, 0]

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        down, along = self._cells(rows + 0.5), self._cells(columns + 0.5)
        return sample_grid(self.probabilities, down, along) > 0.5

    def paste(self, boxes: Tensor, size: tuple[int, int], frame: tuple[int, int]) -> Tensor:
        down, along = (
            self._cells(pixel_centres(*sides)) for sides in zip(size, frame, strict=True)
        )
        # Only the part of the image where a mask can be is computed.
        windows = windows_above(self.probabilities, down, along, 0.5)
        masks = torch.zeros((len(self), *size), dtype=torch.bool, device=self.boxes.device)
        for mask, cells, window in zip(masks, self.probabilities, windows, strict=True):
            top, left, bottom, right = window
            soft = sample_grid(cells, down[top:bottom], along[left:right])
            mask[top:bottom, left:right] = soft > 0.5
        return masks

    def _cells(self, coordinates: Tensor) -> Tensor:
        return ((coordinates - self.origin) / self.stride).to(self.probabilities.device)


@dataclass(eq=False)
class Detections(_PerInstance):
    """Detections of one image before their masks, in network-input pixels (not clipped)."""

    boxes: Tensor  #: N×4
    scores: Tensor  #: N in [0, 1], classification score
    labels: Tensor  #: N int64
    coefficients: Tensor  #: N×D; D is 0 if masks are predicted from the boxes' features


@dataclass(eq=False)
class Instances(_PerInstance):
    """Predicted instances of one image, in pixels of the original image."""

    boxes: Tensor  #: N×4 float32, clipped to the image
    scores: Tensor  #: N float32 in [0, 1], the ranking score (paper Eq. 2)
    class_scores: Tensor  #: N float32 in [0, 1]
    labels: Tensor  #: N int64, contiguous, 0-based
    masks: Tensor  #: N×H×W bool
    iou_scores: Tensor | None = None  #: N float32 in [0, 1], predicted mask IoU
    boundary_scores: Tensor | None = None  #: N float32 in [0, 1], predicted boundary Dice
    class_names: tuple[str, ...] | None = None  #: name of each label, if known

    @property
    def names(self) -> list[str]:
        """Class name of each instance (its label if names are unknown)."""
        return [self.class_names[i] if self.class_names else str(i) for i in self.labels.tolist()]
