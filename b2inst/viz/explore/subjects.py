"""The images to look at: a data set's, or one's own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from b2inst.data import CocoIndex, DataError
from b2inst.data.images import as_array, read_image
from b2inst.ops.images import upright_rgb
from b2inst.structures import Instances
from b2inst.viz.draw import Picture
from b2inst.viz.qualitative import truth_instances


@dataclass(frozen=True)
class Subject:
    """An image, and its true objects where they are known."""

    name: str
    image: Picture
    truth: Instances  #: of score 1; none where nothing is known
    #: COCO annotations of this image alone, by which AP is measured; None where there are none.
    annotations: dict[str, Any] | None = None


class Gallery:
    """The images of a data set, read when they are asked for."""

    def __init__(self, index: CocoIndex) -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Subject:
        index, record = self.index, self.index.images[i]
        return Subject(
            name=f"image {record.id}",
            image=as_array(read_image(record.path)),
            truth=truth_instances(index, record),
            annotations=index.subset([record.id]).to_coco(),
        )


def own_image(path: str | Path) -> Subject:
    """An image file about which nothing is known.

    Raises:
        DataError: it is missing, or no image.
    """
    return _unknown(Path(path).name, read_image(path))


def uploaded_image(name: str, content: bytes) -> Subject:
    """The same of a file that came through the browser.

    Raises:
        DataError: it is no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            return _unknown(name, upright_rgb(file))
    except Exception:  # decoders raise whatever a broken file makes them stumble over
        raise DataError(f"{name}: not an image that can be read; give a PNG or JPEG file") from None


def _unknown(name: str, image: Image.Image) -> Subject:
    array = as_array(image)
    nothing = torch.zeros(0)
    truth = Instances(
        boxes=torch.zeros((0, 4)),
        scores=nothing,
        class_scores=nothing,
        labels=nothing.long(),
        masks=torch.zeros((0, *array.shape[:2]), dtype=torch.bool),
    )
    return Subject(name, array, truth)


Subjects = Gallery | Sequence[Subject]
