"""Pictures of a mask that forms: the boundary in its way, the mask at chosen steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from b2inst.viz.explore.lens import LINE, MASK, TRUTH, Lens, coloured
from b2inst.viz.explore.tiles import BOUNDARY, Row, Tile, sheet, tile_side
from b2inst.viz.explore.view import Formed, View

_LARGE = 420  # pixels across of a picture that is to be looked at step by step
_CONTOUR = "#002B49"  # the mask's colour, darker


def forming_sheet(view: View, instance: int, factors: Sequence[float] | None = None) -> Image.Image:
    """The boundary in an instance's box; its mask as composed, after chosen steps, and the last.

    Args:
        instance: place in the view.
        factors: K, what each basis is multiplied by (default: as trained).

    Raises:
        ValueError: the model's masks are not refined.
    """
    formed = view.form(instance, factors or [1.0] * view.num_bases)
    return sheet([forming_row(view, formed, instance)])


def forming_row(view: View, formed: Formed, instance: int) -> Row:
    """What ``forming_sheet`` shows."""
    steps = chosen_steps(formed.forming.steps)
    lens = _lens(view, instance, tile_side(len(steps) + 1))
    tiles = _boundary(view, lens, formed, instance)
    tiles += [_mask(view, lens, formed, instance, step) for step in steps]
    return Row(f"How the mask forms\n{_legend(view, instance)}", tiles)


def step_row(view: View, formed: Formed, instance: int, step: int) -> Row:
    """The boundary and the mask after one step, large.

    Args:
        step: 0, as composed, to S.
    """
    lens = _lens(view, instance, _LARGE)
    tiles = _boundary(view, lens, formed, instance)
    tiles.append(_mask(view, lens, formed, instance, step))
    return Row(f"Step {step} of {formed.forming.steps}\n{_legend(view, instance)}", tiles)


def chosen_steps(count: int) -> list[int]:
    """0, the last, and the powers of 2 before it: the steps of a diffusion grow."""
    return [0, *(count - 2**i for i in reversed(range(count.bit_length())) if 2**i < count), count]


def step_name(step: int, count: int) -> str:
    """What a step is called."""
    last = ", the mask" if step == count else ""
    return f"step {step}{last}" if step else "composed"


def _legend(view: View, instance: int) -> str:
    known = "; green: the true outline" if view.objects[instance] >= 0 else ""
    return f"blue: probability; line: the mask, where it is ½{known}"


def _lens(view: View, instance: int, side: int) -> Lens:
    box = view.explanation.instances.boxes[instance].tolist()
    return Lens.around(view.subject.image, box, side)


def _boundary(view: View, lens: Lens, formed: Formed, instance: int) -> list[Tile]:
    """One tile; none where no boundary has a say."""
    if formed.forming.guide is None:
        return []
    values = lens.sample(formed.forming.guide.numpy(), view.in_image(formed.forming.extent))
    return [Tile(coloured(values, LINE), "boundary", "slows the spread", BOUNDARY)]


def _mask(view: View, lens: Lens, formed: Formed, instance: int, step: int) -> Tile:
    """On the image in grey, since colours are the mask's and the truth's."""
    soft = formed.forming.logits[step].sigmoid().numpy()
    soft = lens.sample(soft, view.in_image(formed.forming.extent))
    grey = lens.photo(faded=0.4).mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
    picture = lens.shaded(grey, soft, MASK)
    if (k := int(view.objects[instance])) >= 0:
        picture = lens.outlined(picture, view.subject.truth.masks[k], TRUTH, thick=True)
    picture = lens.outlined(picture, formed.masks[step], _CONTOUR)
    iou = float(formed.iou[step])
    note = "" if np.isnan(iou) else f"IoU {iou:.3f}"
    return Tile(picture, step_name(step, formed.forming.steps), note)
