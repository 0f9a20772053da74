"""Size of images in the network."""

from __future__ import annotations


def resized_size(height: int, width: int, shorter: int, longer_max: int) -> tuple[int, int]:
    """Resize the shorter side to ``shorter``, or less if the longer would exceed its limit.

    Operations are in the order of the published baselines, since rounding may decide over a pixel.

    Args:
        height, width: Size of the image in pixels.
        shorter: Length of the shorter side.
        longer_max: Upper limit of the longer side.

    Returns:
        (height, width), at least 1.
    """
    scale = shorter / min(height, width)
    new_height, new_width = (
        (float(shorter), scale * width) if height < width else (scale * height, float(shorter))
    )
    if (longest := max(new_height, new_width)) > longer_max:
        again = longer_max / longest
        new_height, new_width = new_height * again, new_width * again
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)
