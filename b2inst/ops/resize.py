"""The size at which a network looks at an image."""

from __future__ import annotations


def resized_size(height: int, width: int, shorter: int, longer_max: int) -> tuple[int, int]:
    """(height, width) with the shorter side at ``shorter``, unless the longer passes the limit.

    In the published baselines' order of operations, whose rounding decides a pixel now and then.
    No side becomes less than a pixel.
    """
    scale = shorter / min(height, width)
    new_height, new_width = (
        (float(shorter), scale * width) if height < width else (scale * height, float(shorter))
    )
    if (longest := max(new_height, new_width)) > longer_max:
        again = longer_max / longest
        new_height, new_width = new_height * again, new_width * again
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)
