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
from torchvision.utils import draw_bounding_boxes

from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import covered
from b2inst.structures import Instances

Picture = npt.NDArray[np.uint8]  #: H×W×3, RGB
Colour = tuple[int, int, int]  #: RGB, 0–255

_FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
_GOLDEN_RATIO = 0.618034
_OPACITY = 0.45  # of a tint
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
    picture: Picture, masks: Tensor, colours: Sequence[Colour], *, opacity: float = _OPACITY
) -> Picture:
    """Tint each mask and draw its outline, the earlier masks on top.

    Args:
        picture: H×W×3 uint8.
        masks: N×H×W bool; they may overlap.
        colours: N colours.
        opacity: of the tint, 0 to 1; the outline is opaque.
    """
    return _draw_parts(picture, [covered(mask) for mask in masks], colours, opacity)


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
    shown = (instances.scores >= score_threshold).nonzero()[:, 0].tolist()
    every = colours if colours is not None else palette(len(instances))
    colours = [every[i] for i in shown]
    scale = _scale(picture.shape[0], picture.shape[1], side)
    parts = []
    for i in shown:
        top, left, mask = covered(instances.masks[i])
        mask = mask.cpu().repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        parts.append((scale * top, scale * left, mask))
    drawn = _draw_parts(enlarge(picture, side), parts, colours)
    if not captions or not shown:
        return drawn
    names, scores = instances.names, instances.scores.tolist()
    labels = [f"{names[i]} {scores[i]:.2f}" for i in shown]
    framed = draw_bounding_boxes(
        torch.from_numpy(drawn).permute(2, 0, 1),
        (instances.boxes[shown].cpu() * scale).round(),
        labels,
        colors=colours,
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


def _draw_parts(
    picture: Picture,
    parts: Sequence[tuple[int, int, Tensor]],
    colours: Sequence[Colour],
    opacity: float = _OPACITY,
) -> Picture:
    """Draw masks of which top, left and the rectangle that they cover are given."""
    original, canvas = torch.from_numpy(picture), torch.from_numpy(picture.copy())
    layers = [
        ((slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])), mask, colour)
        for (top, left, mask), colour in zip(parts, map(torch.tensor, colours), strict=True)
    ][::-1]
    for window, mask, colour in layers:
        tinted = original[window][mask] * (1 - opacity) + colour * opacity
        canvas[window][mask] = tinted.to(torch.uint8)
    for window, mask, colour in layers:
        canvas[window][_outline(mask)] = colour.to(torch.uint8)
    return canvas.numpy()


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
