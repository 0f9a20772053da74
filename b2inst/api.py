"""What users script against: models whose results can be drawn and handed on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from b2inst import models, weights
from b2inst.models import (
    BasisSegmenter,
    Explanation,
    ImageSegmenter,
    NoBasesError,
    TwoStageSegmenter,
    with_bases,
)
from b2inst.models.image_segmenter import ImageLike, read_image
from b2inst.models.oracle import OracleSegmenter
from b2inst.result import Result
from b2inst.weights.files import model_card


class Segmenter(ImageSegmenter):
    """A segmenter of any kind whose results keep their image."""

    category_ids: tuple[int, ...] = ()  #: the data set's id of each label, where they are known

    @staticmethod
    def of(model: ImageSegmenter, *, category_ids: tuple[int, ...] = ()) -> Segmenter:
        """A model around the parts of another, which it shares.

        Raises:
            NoBasesError: it is an oracle, which predicts nothing by itself.
        """
        if isinstance(model, OracleSegmenter):
            raise NoBasesError(
                "a model with an oracle is shown the true boundaries: `b2inst eval` and tables can "
                "evaluate it, but it predicts nothing of an image alone"
            )
        parts: dict[str, Any] = dict(model.named_children())
        kind = _WithBases if isinstance(model, BasisSegmenter) else _TwoStage
        segmenter: Segmenter = kind(**parts)
        segmenter.class_names, segmenter.recipe = model.class_names, model.recipe
        segmenter.category_ids, segmenter.tile = category_ids, model.tile
        segmenter.precision, segmenter.optimised = model.precision, model.optimised
        segmenter.training = model.training
        return segmenter

    # A list of results is a list of instances to all who only read it.
    def predict(self, images: ImageLike | Sequence[ImageLike]) -> list[Result]:  # type: ignore[override]
        """Instances of each image, ranked by score, in the image's own pixels.

        Args:
            images: H×W×3 uint8 RGB arrays, 3×H×W uint8 RGB tensors, PIL images or paths; they may
                differ in size. A single one is taken as a list of one.

        Returns:
            A result for each image.

        Raises:
            ValueError: an array or tensor of another shape or type.
            FileNotFoundError, PIL.UnidentifiedImageError: a path that is no readable image.
            RuntimeError: the model is in training mode.
        """
        alone = isinstance(images, str | os.PathLike | Image.Image)
        if alone or (isinstance(images, np.ndarray | torch.Tensor) and images.ndim < 4):
            images = [images]  # type: ignore[list-item]
        arrays = [read_image(image) for image in images]  # type: ignore[union-attr]
        found = super().predict(arrays)
        return [
            Result.of(instances, array, self.category_ids)
            for instances, array in zip(found, arrays, strict=True)
        ]

    def explain(self, image: ImageLike) -> Explanation:
        """Predict one image and keep what lies behind: bases, boundary, coefficients.

        Raises:
            NoBasesError: a two-stage model.
        """
        inside = BasisSegmenter.explain(with_bases(self), image)
        result = Result.of(inside.instances, inside.image, self.category_ids)
        return replace(inside, instances=result)


class _WithBases(Segmenter, BasisSegmenter):
    pass


class _TwoStage(Segmenter, TwoStageSegmenter):
    pass


def create_model(
    name: str,
    *,
    num_classes: int,
    class_names: tuple[str, ...] | None = None,
    **options: Any,
) -> Segmenter:
    """Build a model by name, with fresh weights, ready to predict.

    Call ``train()`` on it before training it in a loop of your own.

    Args:
        name: such as "b2inst-blendmask-r50"; a wrong one is answered with all names.
        num_classes: C.
        class_names: name of each label, carried along to results and saved weights.
        options: of the family's builder, e.g. ``attention_size``, ``boundary``, ``scoring``.

    Raises:
        ValueError: an unknown name or option, with the known ones; an oracle, which only tables
            can use.
    """
    model = models.create_model(name, num_classes=num_classes, class_names=class_names, **options)
    return Segmenter.of(model.eval())


def load_model(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    max_detections: int | None = None,
    tile: int | None = None,
    precision: str = "float32",
) -> Segmenter:
    """The model of a weights file, or of one that ``b2inst export`` wrote, ready to predict.

    Args:
        max_detections: of an image (default: as the model was made, 100 for most).
        tile: side in pixels of the overlapping tiles that images are cut into, which saves memory
            (default: whole images).
        precision: of the network: "float32"; "bfloat16", sooner where the device has it, with
            boxes, scores and masks a little different; "auto", bfloat16 where the device has it.
            ONNX Runtime has float32 only.

    Raises:
        ValueError: another precision.
        WeightsError: a missing or damaged file, one not written by ``save_model`` or ``b2inst
            export``, a recipe of another version, weights that do not fit the recipe, or a runtime
            that is not installed.
    """
    model = weights.load_model(path, device=device)
    model.tile, model.precision = tile, precision
    if max_detections is not None:
        model.max_detections = max_detections
    return Segmenter.of(model, category_ids=tuple(model_card(path)["category_ids"]))
