"""Instances drawn on their image: tinted masks, their outlines, boxes and captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from b2inst.ops.frame_masks import Window
from b2inst.ops.masks import mask_window
from b2inst.structures import Instances

Picture = NDArray[np.uint8]  #: H×W×3, RGB
Colour = tuple[int, int, int]  #: RGB, 0–255

_FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
#: Okabe and Ito's colours, distinguishable by colour-blind readers too, without black.
PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
)

_CONTRAST = 50.0  # ΔE from a mask's own colour; of any colour, three of the palette are as far
_NEAR = 4  # pixels between the boxes of neighbours, at most
_OPACITY = 0.45  # of a tint
_FIVE = np.ones((5, 5), np.uint8)
_LONGEST = 4096  # pixels of an enlarged picture's longer side


def contrasting_colours(
    picture: Picture,
    masks: Sequence[NDArray[np.bool_]] | NDArray[np.bool_],
    *,
    windows: Sequence[Window] | None = None,
    fixed: Sequence[Colour | None] | None = None,
) -> list[Colour]:
    """A colour of ``PALETTE`` for each mask: unlike what it covers, and unlike its neighbours'.

    In turn, each mask gets a colour that none of its neighbours has yet (their boxes are at most
    4 pixels apart) and whose distance in CIELAB to the mean colour under the mask is at least 50;
    of several the one used least so far, then the most distant. With more neighbours than there
    are colours, the one that fewest of them have.

    Args:
        picture: H×W×3 uint8 RGB.
        masks: N×H×W bool.
        windows: (top, left, bottom, right) of each mask, where known.
        fixed: N colours of ``PALETTE`` that are given, None where one is to be chosen.

    Returns:
        N colours, the same for the same arguments.
    """
    windows = [*map(mask_window, masks)] if windows is None else windows
    parts = [(slice(w[0], w[2]), slice(w[1], w[3])) for w in windows]
    means = [
        cv2.mean(picture[part], mask[part].view(np.uint8))[:3] if mask[part].size else (0, 0, 0)
        for mask, part in zip(masks, parts, strict=True)
    ]
    distances = np.linalg.norm(_lab(means)[:, None] - _lab(PALETTE), axis=-1)
    edges = np.array(windows).reshape(-1, 2, 2)
    gaps = edges[:, None, 0] - edges[None, :, 1]  # below and right of each other: positive
    near = (np.maximum(gaps, gaps.swapaxes(0, 1)) <= _NEAR).all(-1)
    given = fixed or [None] * len(masks)
    chosen = np.array([-1 if c is None else PALETTE.index(c) for c in given], np.int64)
    for i in np.flatnonzero(chosen < 0):
        around, all_used = (
            np.bincount(used[used >= 0], minlength=len(PALETTE))
            for used in (chosen[near[i]], chosen)
        )
        chosen[i] = np.lexsort((-distances[i], all_used, distances[i] < _CONTRAST, around))[0]
    return [PALETTE[c] for c in chosen]


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
    return _enlarged(picture, scale)


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
    arrays = masks.cpu().numpy()
    return _draw_masks(picture, arrays, [*map(mask_window, arrays)], colours, opacity=opacity)


def draw_instances(
    picture: Picture,
    instances: Instances,
    *,
    score_threshold: float = 0.3,
    colours: Sequence[Colour] | None = None,
    captions: bool = True,
    side: int = 384,
    windows: Sequence[Window] | None = None,
) -> Picture:
    """Draw what ``predict`` returned for an image.

    Args:
        picture: H×W×3 uint8 RGB, the image that was given to ``predict``.
        instances: N instances in its pixels.
        score_threshold: instances with a lower ranking score are left out.
        colours: one for each of the N instances (default: by :func:`contrasting_colours`, of those
            that are drawn).
        captions: whether to draw boxes with class name and score.
        side: small images are enlarged towards this shorter side, as by :func:`enlarge`.
        windows: (top, left, bottom, right) of each of the N masks, for who knows them.

    Returns:
        sH×sW×3 uint8 with the whole factor s (1 for a photograph).
    """
    shown = (instances.scores >= score_threshold).nonzero()[:, 0].tolist()
    scale = _scale(picture.shape[0], picture.shape[1], side)
    arrays = instances.masks.cpu().numpy()
    masks = [arrays[i] for i in shown]
    known = (
        [mask_window(mask) for mask in masks] if windows is None else [windows[i] for i in shown]
    )
    colours = (
        contrasting_colours(picture, masks, windows=known)
        if colours is None
        else [colours[i] for i in shown]
    )
    drawn = _draw_masks(picture, masks, known, colours, scale=scale)
    if not captions or not shown:
        return drawn
    names, scores = instances.names, instances.scores.tolist()
    boxes = (instances.boxes[shown].cpu() * scale).round().long().tolist()
    size = max(min(drawn.shape[:2]) // 32, 10)
    image = Image.fromarray(drawn)
    pen = ImageDraw.Draw(image)
    for i, box, colour in zip(shown, boxes, colours, strict=True):
        pen.rectangle(box, outline=colour)
        text, x, y = _text(f"{names[i]} {scores[i]:.2f}", size)
        x, y = x + box[0] + 2, y + box[1] + 2
        ground = (x - 1, y - 1, x + text.width + 1, y + text.height + 1)
        pen.rectangle(ground, fill=_rgb([c / 400 for c in colour]))
        pen.bitmap((x, y), text, fill="white")
    return np.array(image)


def label_map(
    instances: Instances, *, score_threshold: float = 0.3, windows: Sequence[Window] | None = None
) -> NDArray[np.uint16]:
    """Number the pixels by instance: 0 is background, 1 the instance with the best ranking score.

    Where masks overlap the better score is on top, so that a number may have no pixel.

    Args:
        instances: N instances, at most 65535 of them shown.
        score_threshold: instances with a lower ranking score are left out.
        windows: (top, left, bottom, right) of each of the N masks, for who knows them.

    Returns:
        H×W uint16.
    """
    masks, scores = instances.masks.cpu().numpy(), instances.scores.cpu().numpy()
    ranked = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= score_threshold]
    numbers = np.zeros(masks.shape[1:], np.uint16)
    for number in range(len(ranked), 0, -1):
        i = ranked[number - 1]
        top, left, bottom, right = mask_window(masks[i]) if windows is None else windows[i]
        np.copyto(numbers[top:bottom, left:right], number, where=masks[i, top:bottom, left:right])
    return numbers


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


def _draw_masks(
    picture: Picture,
    masks: Sequence[NDArray[np.bool_]] | NDArray[np.bool_],
    windows: Sequence[Window],
    colours: Sequence[Colour],
    *,
    opacity: float = _OPACITY,
    scale: int = 1,
) -> Picture:
    """Enlarge a picture ``scale`` times and draw H×W masks on it, of which windows are known.

    Each mask only marks its pixels as its own; they are coloured all at once.
    """
    height, width = picture.shape[:2]
    tints = np.full((height, width), -1, np.int32)  # the mask that each pixel belongs to, if any
    lines = np.full((scale * height, scale * width), -1, np.int32)  # the same, of outlines
    for i in reversed(range(len(masks))):
        top, left, bottom, right = windows[i]
        inside = masks[i][top:bottom, left:right]
        if not inside.size:
            continue
        np.copyto(tints[top:bottom, left:right], i, where=inside)
        window = (slice(scale * top, scale * bottom), slice(scale * left, scale * right))
        np.copyto(lines[window], i, where=_outline(_enlarged(inside.view(np.uint8), scale)))
    table = np.array(colours, np.uint8).reshape(-1, 3)
    drawn = picture.copy()
    at = np.flatnonzero(tints >= 0)
    pixels, tint = drawn.reshape(-1, 3), table * np.float32(opacity)
    pixels[at] = pixels[at] * np.float32(1 - opacity) + tint[tints.ravel()[at]]
    drawn = _enlarged(drawn, scale)
    at = np.flatnonzero(lines >= 0)
    drawn.reshape(-1, 3)[at] = table[lines.ravel()[at]]
    return drawn


def _outline(mask: Picture) -> NDArray[np.bool_]:
    """The outer two pixels of a mask, H×W uint8 of 0 and 1; beyond the frame there is nothing."""
    inner = cv2.erode(mask, _FIVE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outline: NDArray[np.bool_] = mask > inner
    return outline


def _enlarged(picture: Picture, scale: int) -> Picture:
    return picture.repeat(scale, axis=1).repeat(scale, axis=0) if scale > 1 else picture


@lru_cache(maxsize=512)
def _text(text: str, size: int) -> tuple[Image.Image, int, int]:
    """Written white on black, and how far right of and below a point that it is written at."""
    font = ImageFont.truetype(_FONT, size)
    left, top, right, bottom = map(int, font.getbbox(text))
    written = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(written).text((-left, -top), text, fill=255, font=font)
    return written, left, top


def _scale(height: int, width: int, side: int) -> int:
    wanted, possible = -(-side // min(height, width)), _LONGEST // max(height, width)
    return max(min(wanted, possible), 1)


def _lab(colours: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """N×3 in CIELAB (D65) of N sRGB colours of 0 to 255."""
    values = np.array(colours, np.float32).reshape(1, -1, 3) / 255
    return cv2.cvtColor(values, cv2.COLOR_RGB2LAB)[0] if values.size else values[0]


def _rgb(fractions: Sequence[float]) -> Colour:
    red, green, blue = (round(255 * value) for value in fractions)
    return red, green, blue
