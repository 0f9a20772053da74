"""Instances drawn on their image: tinted masks, their outlines, boxes and captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from b2inst.data.wording import one_line
from b2inst.ops.masks import mask_window
from b2inst.structures import Instances

Picture = NDArray[np.uint8]  #: H×W×3, RGB
Colour = tuple[int, int, int]  #: RGB, 0–255

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

_FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
_NEAR = 4  # largest distance in pixels between the boxes of neighbours
_CROWDED = 50  # most instances with tints, boxes and captions
_LONGEST = 4096  # pixels of an enlarged picture's longer side


def contrasting_colours(
    picture: Picture, masks: Tensor, *, fixed: Sequence[Colour | None] | None = None
) -> list[Colour]:
    """Choose a colour for each mask, unlike those of its neighbours and of what it covers.

    In turn, each mask gets the colour of ``PALETTE`` that the fewest of its neighbours have (their
    boxes are at most 4 pixels apart), then the one used least so far, then the one most distant
    from the mean colour under the mask.

    Args:
        picture: H×W×3 uint8 RGB.
        masks: N×H×W bool.
        fixed: N colours of ``PALETTE`` that are given, or None where one is to be chosen.
    """
    chosen = list(fixed or [None] * len(masks))
    windows = np.array([mask_window(mask) for mask in masks.numpy()]).reshape(-1, 2, 2)
    for i, (start, end) in enumerate(windows):
        if chosen[i] is None:
            near = ((windows[:, 0] - _NEAR <= end) & (windows[:, 1] + _NEAR >= start)).all(1)
            around = Counter(chosen[k] for k in np.flatnonzero(near))
            used, part = Counter(chosen), (slice(start[0], end[0]), slice(start[1], end[1]))
            inside = picture[part][masks[i].numpy()[part]]
            mean = inside.mean(0) if len(inside) else np.zeros(3)
            distance = {c: float(np.linalg.norm(mean - c)) for c in PALETTE}
            chosen[i] = min(PALETTE, key=lambda c: (around[c], used[c], -distance[c]))
    return [colour for colour in chosen if colour is not None]


def draw_masks(
    picture: Picture,
    masks: Tensor,
    colours: Sequence[Colour],
    *,
    opacity: float = 0.45,
    side: int = 1,
) -> Picture:
    """Tint each mask and draw its outline, two pixels wide, earlier masks on top.

    Args:
        picture: H×W×3 uint8.
        masks: N×H×W bool; they may overlap.
        colours: N colours.
        opacity: Opacity of the tint, 0 to 1.
        side: Smallest shorter side of the result: each pixel is repeated a whole number of times,
            so that it stays visible. The longer side does not grow beyond 4096 pixels.

    Returns:
        sH×sW×3 uint8 with the whole factor s, 1 for a picture that is large enough.
    """
    shorter, longer = sorted(picture.shape[:2])
    scale = max(min(-(-side // shorter), _LONGEST // longer), 1)
    drawn = picture.copy()
    layers = []
    for mask, colour in zip(masks.cpu().numpy()[::-1], colours[::-1], strict=True):
        top, left, bottom, right = mask_window(mask)
        inside, window = mask[top:bottom, left:right], (slice(top, bottom), slice(left, right))
        tint = np.array(colour, np.float32) * np.float32(opacity)
        drawn[window][inside] = picture[window][inside] * np.float32(1 - opacity) + tint
        if inside.size:
            layers.append((inside, scale * top, scale * left, colour))
    drawn = enlarge(drawn, scale)
    for inside, top, left, colour in layers:
        bits, kernel = enlarge(inside, scale).view(np.uint8), np.ones((5, 5), np.uint8)
        inner = cv2.erode(bits, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        drawn[top : top + len(bits), left : left + bits.shape[1]][bits > inner] = colour
    return drawn


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
        score_threshold: Lowest ranking score of the instances to draw.
        colours: N colours (default: :func:`contrasting_colours`).
        captions: Whether to draw boxes with class name and score. Of more than 50 instances, which
            would hide the image, only outlines are drawn.
        side: Small images are enlarged, as by :func:`draw_masks`.

    Returns:
        sH×sW×3 uint8 with the whole factor s, 1 for a photograph.
    """
    shown = (instances.scores >= score_threshold).nonzero()[:, 0].cpu()
    masks = instances.masks.cpu()[shown]
    chosen = [colours[i] for i in shown] if colours else contrasting_colours(picture, masks)
    crowded = captions and len(shown) > _CROWDED
    drawn = draw_masks(picture, masks, chosen, opacity=0.0 if crowded else 0.45, side=side)
    if crowded or not captions or not len(shown):
        return drawn
    image = Image.fromarray(drawn)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype(_FONT, max(min(image.size) // 32, 10))
    boxes = (instances.boxes.cpu()[shown] * (image.height // picture.shape[0])).round().tolist()
    for i, (left, top, right, bottom), colour in zip(shown, boxes, chosen, strict=True):
        pen.rectangle((left, top, right, bottom), outline=colour)
        caption = f"{one_line(instances.names[i])} {instances.scores[i]:.2f}"
        _, _, width, height = map(int, font.getbbox(caption, anchor="lt"))
        # Above the box, since it would cover a small object.
        x, y = max(min(left, image.width - width - 1), 0), max(top - height - 1, 0)
        dark = tuple(round(255 * (value / 400)) for value in colour)
        pen.rectangle((x, y, x + width, y + height), fill=dark)
        pen.text((x, y), caption, "white", font, anchor="lt")
    return np.array(image)


def label_map(masks: Tensor, scores: Tensor, *, score_threshold: float = 0.3) -> NDArray[np.uint16]:
    """Number the pixels by instance, H×W: 0 is background, 1 the instance with the best score.

    Where masks overlap, the better score is on top, so that a number may have no pixel.

    Args:
        masks: N×H×W bool, N at most 65535.
        scores: N.
        score_threshold: Lowest score of the instances to number.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked = masks[order[scores[order] >= score_threshold]].cpu().numpy()
    numbers = np.zeros(masks.shape[1:], np.uint16)
    for number in range(len(ranked), 0, -1):
        numbers[ranked[number - 1]] = number
    return numbers


def draw_heat(values: Tensor, size: tuple[int, int], *, colours: str = "magma") -> Picture:
    """Draw a map of probabilities.

    Args:
        values: h×w float in [0, 1], as ``explain`` gives the boundary basis.
        size: (height, width) to resample it to (bilinear).
        colours: Name of a colour map of Matplotlib.
    """
    resized = F.interpolate(values[None, None].float().cpu(), size=size, mode="bilinear")
    coloured = colormaps[colours](resized[0, 0].clamp(0, 1).numpy())
    return (coloured[..., :3] * 255).round().astype(np.uint8)


def enlarge(picture: NDArray[Any], scale: int) -> NDArray[Any]:
    """Repeat the pixels of an H×W or H×W×3 array."""
    return picture.repeat(scale, axis=1).repeat(scale, axis=0) if scale > 1 else picture
