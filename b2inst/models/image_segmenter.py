"""What every model is to training, evaluation and users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from b2inst.inference import Precision, chosen_precision, fast_network, forget_network
from b2inst.models.interfaces import ImagePreprocessor, LimitedDetector
from b2inst.models.tiles import Span, TileError, joined, spans
from b2inst.ops.images import open_image, upright_rgb
from b2inst.structures import Detections, Instances, Masks, Targets

#: An image as ``predict`` takes it: H×W×3 uint8 RGB array, 3×H×W uint8 RGB tensor, PIL image, or
#: path of a file.
ImageLike = np.ndarray | Tensor | Image.Image | str | os.PathLike[str]


class ImageSegmenter(nn.Module):
    """Finds the instances of images; how, its families say.

    Args:
        preprocessor: see ``b2inst.models.interfaces``.
        backbone: images to features by stride.
    """

    def __init__(self, *, preprocessor: ImagePreprocessor, backbone: nn.Module) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.backbone = backbone
        self.class_names: tuple[str, ...] | None = None
        self.recipe: dict[str, Any] = {}
        #: Side in pixels of the tiles that ``predict`` cuts images into, which saves memory; None
        #: for whole images. Both give the same instances away from the seams, but for the group
        #: norms of some heads, whose statistics are of the tile. Instances of more than 128 pixels
        #: may be cut at a seam. Only for models that do not resize images.
        self.tile: int | None = None
        self._precision: Precision = "float32"
        #: Predict through a ``FastNetwork``, which is the same but for rounding; False to run each
        #: operation as the modules define it, for those who count or compare operations.
        self.optimised: bool = True

    @property
    def max_detections(self) -> int:
        """How many instances of an image are found at most, the best ones; COCO evaluates 100."""
        return self._limited.max_detections

    @max_detections.setter
    def max_detections(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"max_detections {limit}: give 1 or more")
        self._limited.max_detections = limit

    @property
    def precision(self) -> Precision:
        """Of convolutions and linear layers in prediction, whatever training uses.

        "bfloat16" is faster where the device has it and moves boxes, scores and masks a little;
        what is made of the network's outputs is computed in float32 in any case. "auto", when set,
        becomes one of the two by the device that the model is on.
        """
        return self._precision

    @precision.setter
    def precision(self, name: str) -> None:
        self._precision = chosen_precision(name, self.preprocessor.mean.device)

    def train(self, mode: bool = True) -> Self:
        if mode:
            forget_network(self)
        return super().train(mode)

    @property
    def _limited(self) -> LimitedDetector:
        """The part that finds the instances."""
        raise NotImplementedError

    def _network(self) -> AbstractContextManager[Any]:
        """A context for the parts of the network in which they are fast."""
        if self.training:
            raise RuntimeError("the model is in training mode; call model.eval() before predicting")
        return fast_network(self, self.precision) if self.optimised else nullcontext()

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; their plain sum is what training minimises.

        Args:
            images: B tensors 3×H×W uint8 RGB at the network's size.
            targets: B, in the same pixels.
        """
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, images: Sequence[ImageLike]) -> list[Instances]:
        """Instances of each image, ranked by score, in the image's own pixels.

        Raises:
            ValueError: an array that is not H×W×3 uint8.
            TileError: the model resizes images, or its tile is too small.
            FileNotFoundError, PIL.UnidentifiedImageError: a path that is no readable image.
        """
        arrays = [read_image(image) for image in images]
        if self.tile is not None:
            return [self._in_tiles(array) for array in arrays]
        return self.segment(
            [self.preprocessor.resized(array) for array in arrays],
            [array.shape[:2] for array in arrays],
        )

    def _in_tiles(self, image: np.ndarray) -> Instances:
        def find(down: Span, across: Span) -> Instances:
            part = image[down.start : down.stop, across.start : across.stop]
            resized = self.preprocessor.resized(np.ascontiguousarray(part))
            if resized.shape[1:] != part.shape[:2]:
                raise TileError(
                    "tile: this model resizes images; leave it out, or train a model with "
                    "shorter=None (yolact-tiny: keep_size=True)"
                )
            return self.segment([resized], [part.shape[:2]])[0]

        assert self.tile is not None
        height, width = image.shape[:2]
        down, across = (
            spans(side, self.tile, divisor=self.preprocessor.size_divisor)
            for side in (height, width)
        )
        found = ((d, a, find(d, a)) for d, a in product(down, across))
        return joined(found, (height, width), most=self.max_detections)

    def segment(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """What ``predict`` does once images are resized, for callers who do that themselves.

        Args:
            images: B tensors 3×h×w RGB, 0 to 255, at the network's size.
            sizes: (height, width) of the image that each was resized from; the instances are in
                its pixels.
        """
        raise NotImplementedError

    def _finish(
        self,
        detections: Detections,
        masks: Masks,
        qualities: dict[str, Tensor],
        *,
        network_size: tuple[int, int],
        image_size: tuple[int, int],
    ) -> tuple[Instances, Tensor]:
        """Rank by Eq. 2 and bring boxes and masks to the image's pixels."""
        height, width = image_size
        scale = detections.boxes.new_tensor([width / network_size[1], height / network_size[0]])
        boxes = detections.boxes * scale.repeat(2)
        boxes = torch.stack(
            [boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2
        ).flatten(1)
        scores = mask_score(detections.scores, qualities)
        visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        order = scores.argsort(descending=True, stable=True)
        order = order[visible[order]]
        boxes = boxes[order]
        instances = Instances(
            boxes=boxes,
            scores=scores[order],
            class_scores=detections.scores[order],
            labels=detections.labels[order],
            masks=masks.paste(boxes, image_size, network_size, rows=order),
            iou_scores=qualities["iou"][order] if "iou" in qualities else None,
            boundary_scores=qualities["boundary"][order] if "boundary" in qualities else None,
            class_names=self.class_names,
        )
        return instances, order


def mask_score(class_scores: Tensor, qualities: dict[str, Tensor]) -> Tensor:
    """S_mask = S_class · sqrt(S_IoU · S_boundary), paper Eq. 2.

    With one quality only, its geometric mean is itself; with none the class score ranks.
    """
    if not qualities:
        return class_scores
    product = torch.stack(list(qualities.values())).prod(0)
    return class_scores * product ** (1 / len(qualities))


def read_image(image: ImageLike) -> np.ndarray:
    """An image as H×W×3 uint8 RGB; what files and PIL images become, ``upright_rgb`` says."""
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(
                f"image tensor has shape {tuple(image.shape)} and dtype {image.dtype}; give 3×H×W "
                "uint8 in RGB order, as torchvision.io.decode_image does"
            )
        return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"image array has shape {image.shape} and dtype {image.dtype}; "
                "give H×W×3 uint8 in RGB order"
            )
        return image
    if isinstance(image, Image.Image):
        return np.asarray(upright_rgb(image))
    with open_image(image) as opened:
        return np.asarray(upright_rgb(opened))
