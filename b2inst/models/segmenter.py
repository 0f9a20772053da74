"""Interface that all models share."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from b2inst.inference import Precision, autocast, chosen_precision, fast_network, forget_network
from b2inst.models.tiles import OVERLAP, Span, merge_tiles, spans
from b2inst.modules.preprocessor import Preprocessor
from b2inst.ops.images import open_image, upright_rgb
from b2inst.result import Result
from b2inst.structures import Bases, Detections, ImageBatch, Instances, Masks, Targets, WindowMasks

#: An H×W×3 uint8 RGB array, a 3×H×W uint8 RGB tensor, a PIL image, or the path of a file.
ImageLike = np.ndarray | Tensor | Image.Image | str | os.PathLike[str]


class ModelError(ValueError):
    """A model was asked for what it cannot do; the message is one line with a remedy."""


@dataclass(eq=False)
class Explanation:
    """How the instances of one image were composed."""

    image: np.ndarray  #: H×W×3 uint8 RGB, as given
    instances: Instances
    detections: Detections  #: boxes in network-input pixels, with coefficients; same order
    bases: Bases  #: of a batch of one
    content: tuple[int, int]  #: (h, w) of the basis grid that the image covers; the rest is padding

    @property
    def boundary(self) -> Tensor | None:
        """h×w boundary probability over the image, where the model predicts one."""
        if self.bases.boundary_logits is None:
            return None
        height, width = self.content
        return self.bases.boundary_logits[0, 0, :height, :width].sigmoid()


class Prediction(NamedTuple):
    """The instances of a batch before they are ranked."""

    detections: list[Detections]  #: of each image, N in total
    masks: Masks | WindowMasks  #: N, in the same order
    qualities: dict[str, Tensor]  #: "iou" and "boundary", N each, where predicted
    bases: Bases | None = None


def is_whole(value: Any, *, least: int) -> bool:
    """Whether a value is a whole number, Python's or NumPy's, of at least so much."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= least


def _probability(value: Any) -> bool:
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return number and 0 <= float(value) <= 1


def no_bases(model: Segmenter) -> ModelError:
    """The error of a model that composes no bases where some are needed."""
    return ModelError(
        f"{model.recipe.get('name', 'this model')} has no bases to show; choose one of the "
        "blendmask, yolact or condinst families"
    )


class Segmenter(nn.Module):
    """Base class of instance segmenters, such as ``BasisSegmenter`` and ``TwoStageSegmenter``.

    Args:
        preprocessor: Converts images to the network's input.
        backbone: Computes features by stride from the network's input.
    """

    _detector: Any  #: the part that detects instances

    def __init__(self, *, preprocessor: Preprocessor, backbone: nn.Module) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.backbone = backbone
        self.class_names: tuple[str, ...] | None = None
        self.category_ids: tuple[int, ...] = ()  #: the data set's id of each label, where known
        self.recipe: dict[str, Any] = {}  #: name, number of classes and options it was built from
        self._tile: int | None = None
        self._min_score = 0.0
        self._precision: Precision = "float32"
        #: Predict through a ``FastNetwork``, equal up to rounding, or as the modules define it.
        self.optimised: bool = True

    @property
    def max_detections(self) -> int:
        """Maximum number of instances per image; the best are kept. COCO evaluates 100."""
        return int(self._detector.max_detections)

    @max_detections.setter
    def max_detections(self, limit: int) -> None:
        if not is_whole(limit, least=1):
            raise ValueError(f"max_detections {limit!r}: give a whole number, 1 or more")
        self._detector.max_detections = int(limit)

    @property
    def min_score(self) -> float:
        """Minimum ranking score of the instances that ``predict`` returns, from 0 to 1.

        No masks are computed for detections that cannot reach it, which saves time.
        """
        return self._min_score

    @min_score.setter
    def min_score(self, score: float) -> None:
        if not _probability(score):
            raise ValueError(f"min_score {score!r}: give a number from 0 to 1")
        self._min_score = float(score)

    @property
    def tile(self) -> int | None:
        """Side in pixels of the tiles that ``predict`` cuts images into to save memory.

        None predicts whole images. Only models that do not resize images support tiles. Away from
        tile borders, results are the same, except for the effect of group norms. Instances larger
        than 128 pixels may be cut.
        """
        return self._tile

    @tile.setter
    def tile(self, side: int | None) -> None:
        least = OVERLAP + self.preprocessor.size_divisor
        if side is not None and not is_whole(side, least=least):
            raise ModelError(f"tile {side!r}: give {least} pixels or more, or None")
        self._tile = None if side is None else int(side)

    @property
    def precision(self) -> Precision:
        """Precision of convolutions and linear layers in prediction; training does not use it.

        "bfloat16" is faster on devices that support it, and changes boxes, scores and masks
        slightly. Setting "auto" selects "bfloat16" if the model's device supports it, and "float32"
        otherwise.
        """
        return self._precision

    @precision.setter
    def precision(self, name: str) -> None:
        self._precision = chosen_precision(name, self.preprocessor.mean.device)

    def explain(self, image: ImageLike) -> Explanation:
        """Predict one image; also return the bases behind its masks.

        Raises:
            ModelError: The model has no bases.
        """
        raise no_bases(self)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; ``predict`` works only in evaluation mode."""
        if mode:
            forget_network(self)
        return super().train(mode)

    def _network(self) -> AbstractContextManager[Any]:
        """A context in which the parts of the network run fast."""
        if self.training:
            raise RuntimeError("the model is in training mode; call model.eval() before predicting")
        if (dtype := self.preprocessor.mean.dtype) != torch.float32:
            raise ModelError(f"the model is {dtype}; call model.float(), and set model.precision")
        if not self.optimised:
            return autocast(self.preprocessor.mean.device, self.precision)
        return fast_network(self, self.precision)

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Compute the losses by name; training minimises their unweighted sum.

        Args:
            images: B tensors of 3×H×W uint8 RGB, already resized to the network's input size.
            targets: The ground truth of each image, in pixels of the resized image.
        """
        raise NotImplementedError

    def _predict(self, batch: ImageBatch) -> Prediction:
        raise NotImplementedError

    def _candidates(self, detections: list[Detections]) -> list[Detections]:
        """Those that can reach ``min_score``: qualities only lower a score (Eq. 2)."""
        return [found[~(found.scores < self.min_score)] for found in detections]  # keeps NaN

    @torch.inference_mode()
    def predict(self, images: ImageLike | Sequence[ImageLike]) -> list[Result]:
        """Predict the instances of each image, ranked by score, in pixels of the given image.

        Args:
            images: H×W×3 uint8 RGB arrays, 3×H×W uint8 RGB tensors, PIL images or paths; they may
                differ in size. A single image is treated as a list of one.

        Returns:
            One result for each image, in the same order.

        Raises:
            ValueError: An image has another type, or an array or tensor has another shape or dtype.
            ModelError: The parameters are not float32, or ``tile`` is set and the model resizes
                images.
            FileNotFoundError, PIL.UnidentifiedImageError: A path is not a readable image.
            RuntimeError: The model is in training mode.
        """
        single = isinstance(images, str | bytes | os.PathLike | Image.Image)
        single |= hasattr(images, "read") or not isinstance(images, Iterable)
        if single or (isinstance(images, np.ndarray | Tensor) and images.ndim < 4):
            images = [images]  # type: ignore[list-item]
        arrays = [rgb_array(image) for image in images]  # type: ignore[union-attr]
        if self.tile is None:
            instances = self._segment_whole(arrays)
        else:
            instances = [self._segment_tiles(array, self.tile) for array in arrays]
        return self._results(instances, arrays)

    def _segment_whole(self, images: list[np.ndarray]) -> list[Instances]:
        """Images of one size in the network together, so that results do not depend on others."""
        batches: defaultdict[torch.Size, list[int]] = defaultdict(list)
        resized = [self.preprocessor.resized(image) for image in images]
        for i, image in enumerate(resized):
            batches[image.shape].append(i)
        found: dict[int, Instances] = {}
        for batch in batches.values():
            sizes = [images[i].shape[:2] for i in batch]
            found |= zip(batch, self.segment([resized[i] for i in batch], sizes), strict=True)
        return [found[i] for i in range(len(images))]

    def _segment_tiles(self, image: np.ndarray, side: int) -> Instances:
        size, divisor = image.shape[:2], self.preprocessor.size_divisor

        def tiles() -> Iterator[tuple[Span, Span, Instances]]:
            for rows, columns in product(*(spans(length, side, divisor) for length in size)):
                tile = image[rows.start : rows.stop, columns.start : columns.stop]
                resized = self.preprocessor.resized(np.ascontiguousarray(tile))
                if resized.shape[1:] != tile.shape[:2]:
                    raise ModelError(
                        "tile: this model resizes images; leave it out, or train a model with "
                        "shorter=None (yolact-tiny: keep_size=True)"
                    )
                yield rows, columns, self.segment([resized], [tile.shape[:2]])[0]

        return merge_tiles(tiles(), size, self.max_detections)

    def _results(self, instances: list[Instances], arrays: list[np.ndarray]) -> list[Result]:
        pairs = zip(instances, arrays, strict=True)
        return [Result.of(found, array, self.category_ids) for found, array in pairs]

    @torch.inference_mode()
    def segment(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Predict images that the caller has already resized, all in one batch.

        Smaller images are padded to the size of the largest, and group norms see the padding.

        Args:
            images: B tensors of 3×h×w RGB, 0 to 255, already resized to the network's input size.
            sizes: (height, width) of each original image. Instances are in pixels of the original.
        """
        if not images:
            return []
        batch = self.preprocessor(list(images))
        return [found for found, _ in self._ranked(self._predict(batch), batch.sizes, sizes)]

    def _ranked(
        self,
        prediction: Prediction,
        network_sizes: Sequence[tuple[int, int]],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[tuple[Instances, Detections]]:
        """Instances of each image, ranked by Eq. 2 and in its pixels, and their detections.

        Sizes are (height, width) of each image in the network, and as given.
        """
        results = []
        stop = 0
        sizes = zip(prediction.detections, network_sizes, image_sizes, strict=True)
        for detections, network_size, (height, width) in sizes:
            start, stop = stop, stop + len(detections)
            rows = slice(start, stop)
            qualities = {name: value[rows] for name, value in prediction.qualities.items()}
            scale = detections.boxes.new_tensor([width / network_size[1], height / network_size[0]])
            boxes = clip_boxes_to_image(detections.boxes * scale.repeat(2), (height, width))
            scores = mask_score(detections.scores, qualities)
            order = scores.argsort(descending=True, stable=True)
            valid = (boxes[:, 2:] > boxes[:, :2]).all(1) & ~(scores < self.min_score)
            order = order[valid[order]]
            boxes, detections = boxes[order], detections[order]
            instances = Instances(
                boxes=boxes,
                scores=scores[order],
                class_scores=detections.scores,
                labels=detections.labels,
                masks=prediction.masks[rows][order].paste(boxes, (height, width), network_size),
                class_names=self.class_names,
                **{f"{name}_scores": value[order] for name, value in qualities.items()},
            )
            results.append((instances, detections))
        return results


def rgb_array(image: ImageLike) -> np.ndarray:
    """An image as H×W×3 uint8 RGB, of files and PIL images as ``upright_rgb`` converts them.

    Raises:
        ValueError: An image of another type, or an array or tensor of another shape or type.
        FileNotFoundError, PIL.UnidentifiedImageError: A path that is no readable image.
    """
    if isinstance(image, Image.Image):
        return np.asarray(upright_rgb(image))
    if not isinstance(image, np.ndarray | Tensor):
        given: Any = image
        if not isinstance(given, str | os.PathLike) and not hasattr(given, "read"):
            kinds = "give an array, a tensor, a PIL image or a path"
            raise ValueError(f"image of type {type(given).__name__}; {kinds}")
        with open_image(image) as opened:
            return np.asarray(upright_rgb(opened))
    array, form = (image, "H×W×3")
    if isinstance(image, Tensor):
        array, form = image.cpu().numpy(), "3×H×W"
        if array.ndim == 3:
            array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(
            f"image of shape {tuple(image.shape)} and dtype {image.dtype}; give {form} uint8 in "
            "RGB order"
        )
    return array


def mask_score(class_scores: Tensor, qualities: dict[str, Tensor]) -> Tensor:
    """S_mask = S_class · sqrt(S_IoU · S_boundary), paper Eq. 2: N in [0, 1].

    Args:
        class_scores: S_class, N in [0, 1].
        qualities: Predicted qualities by name, each N in [0, 1]. With only one, the score is its
            product with S_class; with none, the score is S_class.
    """
    if not qualities:
        return class_scores
    product = torch.stack(list(qualities.values())).prod(0)
    return class_scores * product ** (1 / len(qualities))
