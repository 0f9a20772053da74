"""A segmenter that is shown where the boundaries are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from b2inst.models.image_segmenter import ImageLike, read_image
from b2inst.models.segmenter import BasisSegmenter, Explanation, NoBasesError
from b2inst.modules.oracle_boundary import OracleBoundary
from b2inst.structures import Bases, Instances


class OracleSegmenter(BasisSegmenter):
    """A ``BasisSegmenter`` with the true boundary where a predicted one would be, at test too.

    It bounds what a predicted boundary can give. It cannot predict what has no truth.

    Args:
        oracle: adds the boundary to the bases.
        parts: of ``BasisSegmenter``.
    """

    def __init__(self, *, oracle: OracleBoundary, **parts: Any) -> None:
        super().__init__(**parts)
        self.oracle = oracle

    @torch.inference_mode()
    def predict_with_truth(
        self, images: Sequence[ImageLike], truths: Sequence[Tensor]
    ) -> list[Instances]:
        """Like ``predict``, with the true masks.

        Args:
            images: as ``predict`` takes them.
            truths: of each image N×H×W uint8 masks, in its pixels.
        """
        arrays = [read_image(image) for image in images]
        resized = [self.preprocessor.resized(array) for array in arrays]
        shown = [
            F.resize(tv_tensors.Mask(masks), list(image.shape[-2:])).as_subclass(Tensor)
            for masks, image in zip(truths, resized, strict=True)
        ]
        sizes = [array.shape[:2] for array in arrays]
        return [result[0] for result in self._run(resized, sizes, shown)]

    def explain(self, image: ImageLike) -> Explanation:
        """Not for this model.

        Raises:
            NoBasesError: always.
        """
        raise NoBasesError(_UNTOLD)

    def _shown(self, bases: Bases, truths: Sequence[Tensor] | None) -> Bases:
        if truths is None:
            raise NoBasesError(_UNTOLD)
        return self.oracle(bases, [masks.to(bases.maps.device) for masks in truths])


_UNTOLD = (
    "this model is shown the true boundaries, which an image alone does not have; evaluate it on "
    "annotated data, or predict with one that predicts them itself"
)
