"""The typed values that travel between the parts of a segmenter.

Shape letters, used in every docstring of the package:
B images in a batch, N instances of an image or batch, P positive positions, K bases,
D coefficients per position, C channels or classes, L levels, H×W image, h×w basis grid,
R RoI resolution, A attention size.

Boxes are float32 ``x1 y1 x2 y2`` in pixels, x2 and y2 exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from b2inst.ops.masks import paste_masks

#: Feature maps by stride: ``{8: B×C×H/8×W/8, 16: …}``, in ascending order of stride.
Features = dict[int, Tensor]


class _Movable:
    """Moves and indexes the tensors of a dataclass together."""

    def to(self, device: torch.device | str) -> Self:
        """The same with all tensors on a device."""
        moved = {
            f.name: value.to(device)
            for f in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)  # type: ignore[type-var]


class _PerInstance(_Movable):
    """A dataclass whose tensor fields all have the instances as first dimension."""

    def __len__(self) -> int:
        return len(next(v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)))  # type: ignore[arg-type]

    def __getitem__(self, index: Tensor | slice) -> Self:
        """Select instances with a boolean mask, an index tensor or a slice."""
        picked = {
            f.name: value[index]
            for f in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **picked)  # type: ignore[type-var]


@dataclass
class Targets(_Movable):
    """Ground truth of one image, in pixels of the network's input (resized, not padded).

    Crowd regions are not instances; they only appear in ``semantic``.
    """

    image_id: int
    boxes: Tensor  #: N×4 float32
    labels: Tensor  #: N int64, contiguous, 0-based
    masks: Tensor  #: N×H×W uint8, 0 or 1
    semantic: Tensor  #: H×W uint8, 0 background, else class index + 1; later annotations on top

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class ImageBatch(_Movable):
    """Normalised images, zero-padded at the right and bottom to one size."""

    images: Tensor  #: B×3×H×W float
    sizes: list[tuple[int, int]]  #: (height, width) of each image before padding


@dataclass
class Positives(_PerInstance):
    """Positions of the instance head that are trained to give a mask."""

    image_index: Tensor  #: P int64, image in the batch
    target_index: Tensor  #: P int64, row in the concatenation of the batch's targets
    coefficients: Tensor  #: P×D
    weights: Tensor  #: P float, weight of each position in the mask loss
    weight_sum: float  #: what the weighted mask loss is divided by (mean over devices)


@dataclass
class Bases(_Movable):
    """Global bases of a batch; the boundary basis, where there is one, is the last of ``maps``."""

    maps: Tensor  #: B×K×h×w, unbounded
    stride: int  #: input pixels per cell of the basis grid
    boundary_logits: Tensor | None = None  #: B×1×h×w, supervised boundary before the sigmoid


@dataclass
class RoIMasks(_PerInstance):
    """Masks that live in their boxes."""

    probabilities: Tensor  #: N×R×R in [0, 1]
    boxes: Tensor  #: N×4, what each mask is spread over

    def resized(self, size: int) -> Tensor:
        """N×size×size probabilities, area-averaged (exact for divisors of R)."""
        return F.adaptive_avg_pool2d(self.probabilities, size)

    def paste(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """N×H×W bool masks in an image of (height, width), where the boxes are now ``boxes``."""
        return paste_masks(self.probabilities, boxes, size)


@dataclass
class Detections(_PerInstance):
    """Detections of one image before their masks, in network-input pixels (not clipped)."""

    boxes: Tensor  #: N×4
    scores: Tensor  #: N in [0, 1], classification score
    labels: Tensor  #: N int64
    coefficients: Tensor  #: N×D


@dataclass
class Instances(_PerInstance):
    """What ``predict`` returns for one image, in pixels of the image that was given."""

    boxes: Tensor  #: N×4 float32, clipped to the image
    scores: Tensor  #: N float32 in [0, 1], the ranking score (paper Eq. 2)
    class_scores: Tensor  #: N float32 in [0, 1]
    labels: Tensor  #: N int64, contiguous, 0-based
    masks: Tensor  #: N×H×W bool
    iou_scores: Tensor | None = None  #: N float32 in [0, 1], predicted mask IoU
    boundary_scores: Tensor | None = None  #: N float32 in [0, 1], predicted boundary Dice
    class_names: tuple[str, ...] | None = None  #: name of each label, where the model knows them

    @property
    def names(self) -> list[str]:
        """Class name of each instance (the label's number where names are not known)."""
        labels = self.labels.tolist()
        return [self.class_names[i] if self.class_names else str(i) for i in labels]
