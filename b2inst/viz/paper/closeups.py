"""Close-ups of single objects, for their boundaries (paper Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from b2inst.data import CocoIndex
from b2inst.data.images import as_array, read_image
from b2inst.ops.masks import decode_rle
from b2inst.viz.choose import Choice, ImagePredictions, detections
from b2inst.viz.draw import Colour, Picture, draw_heat, draw_masks, enlarge
from b2inst.viz.grid import picture_grid
from b2inst.viz.qualitative import Explainer

MASK: Colour = (230, 159, 0)
TRUTH: Colour = (0, 114, 178)

Window = tuple[slice, slice]  #: rows and columns


def closeup_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    predictions: Mapping[str, ImagePredictions],
    explainer: Explainer,
    *,
    side: int = 192,
    **layout: Any,
) -> Figure:
    """Draw the chosen objects: the mask of each model | the boundary basis.

    Args:
        index: Images with their ground truth.
        choices: Choices of objects.
        predictions: By name of the model, as :func:`b2inst.viz.choose.visible` returns them.
        explainer: Model whose boundary is shown.
        side: Small objects are enlarged to at least this size, in pixels.
        layout: Further arguments of ``picture_grid``.
    """
    images = {a.id: record for record in index.images for a in index.annotations[record.id]}
    rows = []
    for choice in choices:
        record = images[choice.id]
        picture, row = as_array(read_image(record.path)), []
        for found in predictions.values():
            matches = detections(index, record, found[record.id])
            annotation, truth, mask = next(m for m in matches if m[0].id == choice.id)
            window = square_window(annotation.box, (record.height, record.width))
            row.append(draw_closeup(picture, mask, truth, window, side=side))
        boundary = explainer.explain(picture).boundary
        assert boundary is not None
        whole = F.interpolate(
            boundary[None, None], size=picture.shape[:2], mode="bilinear", align_corners=False
        )
        rows.append([*row, draw_heat(whole[0, 0][window], row[0].shape[:2])])
    labels = [f"object {choice.id}\n{choice.label}" for choice in choices]
    return picture_grid(rows, [*predictions, "boundary basis"], labels, **layout)


def square_window(
    box: tuple[float, float, float, float], size: tuple[int, int], *, margin: float = 0.15
) -> Window:
    """Place a square around a box, inside the image.

    Args:
        box: x1 y1 x2 y2 in pixels.
        size: (height, width) of the image.
        margin: Margin on each side, as a fraction of the box's longer side.
    """
    x1, y1, x2, y2 = box
    side = min(round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)), *size)
    top = min(max(round((y1 + y2 - side) / 2), 0), size[0] - side)
    left = min(max(round((x1 + x2 - side) / 2), 0), size[1] - side)
    return slice(top, top + side), slice(left, left + side)


def draw_closeup(
    picture: Picture,
    mask: dict[str, Any] | None,
    truth: dict[str, Any],
    window: Window,
    *,
    side: int = 192,
) -> Picture:
    """Draw a mask in orange and the outline of the true one in blue on a grey image.

    Args:
        picture: H×W×3 uint8.
        mask: Run-length code, if the object was found.
        truth: Run-length code.
        window: Part of the image to draw.
        side: Small windows are enlarged to at least this size, in pixels.
    """
    crop = picture[window]
    grey = crop.mean(-1, keepdims=True).round().astype("uint8").repeat(3, -1)
    codes = [mask] if mask else []
    found, true = (decode_rle(c, picture.shape[:2])[:, *window] for c in (codes, [truth]))
    drawn = draw_masks(grey, found, [MASK] * len(found), side=side)
    outline = torch.from_numpy(enlarge(true[0].numpy(), drawn.shape[0] // crop.shape[0]))
    return draw_masks(drawn, outline[None], [TRUTH], opacity=0)
