"""Instances drawn on their image: tinted masks, their outlines, boxes and captions."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from b2inst.ops.boundary import laplacian_boundary
from b2inst.structures import Instances

Picture = npt.NDArray[np.uint8]  #: H×W×3, RGB
Colour = tuple[int, int, int]  #: RGB, 0–255

_FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
_GOLDEN_RATIO = 0.618034
_LONGEST = 4096  # pixels of an enlarged picture's longer side


def palette(count: int) -> list[Colour]:
    """Colours whose neighbours in the list are far apart in hue (golden-ratio steps)."""
    hues = [(0.58 + i * _GOLDEN_RATIO) % 1.0 for i in range(count)]
    values = [(1.0, 0.8)[i % 2] for i in range(count)]
    return [_rgb(colorsys.hsv_to_rgb(h, 0.85, v)) for h, v in zip(hues, values, strict=True)]


def enlarge(picture: Picture, side: int) -> Picture:
    """Repeat each pixel a whole number of times, so that the shorter side has at least ``side``.

    Whole pixels stay visible as they are, which is the point of a picture of boundaries. A long,
    thin picture is enlarged less: its longer side does not grow beyond 4096 pixels.

    Args:
        picture: H×W×3 uint8.
        side: pixels.

    Returns:
        sH×sW×3 uint8 with a whole factor s; a picture that is already longer keeps its size.
    """
    scale = _scale(picture.shape[0], picture.shape[1], side)
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def to_grey(picture: Picture, *, pale: float = 0.0) -> Picture:
    """Without colours, so that what is drawn on it has them for itself.

    Args:
        pale: how far towards white, 0 to 1.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] * (1 - pale) + 255 * pale
    return np.repeat(grey.round().astype(np.uint8), 3, axis=2)


def draw_masks(
    picture: Picture, masks: Tensor, colours: Sequence[Colour], *, opacity: float = 0.45
) -> Picture:
    """Tint each mask and draw its outline, the earlier masks on top.

    Args:
        picture: H×W×3 uint8.
        masks: N×H×W bool; they may overlap.
        colours: N colours.
        opacity: of the tint, 0 to 1; the outline is opaque.
    """
    if len(masks) == 0:
        return picture.copy()
    # torchvision blackens what several masks share, so each pixel goes to the first that has it.
    first = masks.clone()
    taken = masks[0].clone()
    for mask in first[1:]:
        mask &= ~taken
        taken |= mask
    canvas = torch.from_numpy(picture).permute(2, 0, 1)
    canvas = draw_segmentation_masks(canvas, first, alpha=opacity, colors=list(colours))
    for mask, colour in reversed(list(zip(masks, colours, strict=True))):
        canvas[:, _outline(mask)] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return canvas.permute(1, 2, 0).numpy()


def draw_instances(
    picture: Picture,
    instances: Instances,
    *,
    score_threshold: float = 0.3,
    colours: Sequence[Colour] | None = None,
    captions: bool = True,
    side: int = 384,
) -> Picture:
    """Draw what ``predict`` returned for an image.

    Args:
        picture: H×W×3 uint8 RGB, the image that was given to ``predict``.
        instances: N instances in its pixels.
        score_threshold: instances with a lower ranking score are left out.
        colours: one for each of the N instances; a palette by default.
        captions: whether to draw boxes with class name and score.
        side: small images are enlarged towards this shorter side, as by :func:`enlarge`.

    Returns:
        sH×sW×3 uint8 with the whole factor s (1 for a photograph).
    """
    keep = instances.scores >= score_threshold
    colours = list(colours) if colours is not None else palette(len(instances))
    colours = [colour for colour, kept in zip(colours, keep.tolist(), strict=True) if kept]
    shown = instances.to("cpu")[keep.cpu()]
    scale = _scale(picture.shape[0], picture.shape[1], side)
    masks = shown.masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    drawn = draw_masks(enlarge(picture, side), masks, colours)
    if not captions or len(shown) == 0:
        return drawn
    labels = [
        f"{name} {score:.2f}"
        for name, score in zip(shown.names, shown.scores.tolist(), strict=True)
    ]
    framed = draw_bounding_boxes(
        torch.from_numpy(drawn).permute(2, 0, 1),
        (shown.boxes * scale).round(),
        labels,
        colors=list(colours),
        font=str(_FONT),
        font_size=max(min(drawn.shape[:2]) // 32, 10),
        label_colors="white",
        label_background_colors=[_rgb([c / 400 for c in colour]) for colour in colours],
        fill_labels=True,
    )
    return framed.permute(1, 2, 0).numpy()


def draw_heat(values: Tensor, size: tuple[int, int], *, colours: str = "magma") -> Picture:
    """A map of probabilities as a picture.

    Args:
        values: h×w float in [0, 1], as ``explain`` gives the boundary basis.
        size: (height, width) to resample it to (bilinear).
        colours: name of a Matplotlib colour map; 0 is its first, 1 its last colour.
    """
    resized = F.interpolate(
        values[None, None].float().cpu(), size=size, mode="bilinear", align_corners=False
    )
    coloured = colormaps[colours](resized[0, 0].clamp(0, 1).numpy())
    return (coloured[..., :3] * 255).round().astype(np.uint8)


def _outline(mask: Tensor) -> Tensor:
    """The outer two pixels of a mask, H×W bool."""
    edge = laplacian_boundary(mask, frame="constant")
    wide = F.max_pool2d(edge[None].float(), 3, stride=1, padding=1)[0] > 0
    return wide & mask


def _scale(height: int, width: int, side: int) -> int:
    wanted, possible = -(-side // min(height, width)), _LONGEST // max(height, width)
    return max(min(wanted, possible), 1)


def _rgb(fractions: Sequence[float]) -> Colour:
    red, green, blue = (round(255 * value) for value in fractions)
    return red, green, blue
