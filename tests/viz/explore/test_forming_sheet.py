from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from b2inst.models import BasisSegmenter
from b2inst.viz.explore.forming_sheet import chosen_steps, forming_row, forming_sheet, step_row
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.tiles import BOUNDARY, png
from b2inst.viz.explore.view import look

Build = Callable[..., BasisSegmenter]


def test_steps_are_chosen_densely_at_the_end() -> None:
    assert chosen_steps(12) == [0, 4, 8, 10, 11, 12]
    assert chosen_steps(13) == [0, 5, 9, 11, 12, 13]
    assert chosen_steps(16) == [0, 8, 12, 14, 15, 16]
    assert chosen_steps(2) == [0, 1, 2]
    assert chosen_steps(1) == [0, 1]


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_a_row_goes_from_the_boundary_to_the_mask(
    family: str, build: Build, subject: Subject
) -> None:
    view = look(build(f"gated-{family}-tiny"), subject)
    known = next(i for i, k in enumerate(view.objects) if k >= 0)
    formed = view.form(known, [1.0] * view.num_bases)
    boundary, *masks = forming_row(view, formed, known).tiles
    assert (boundary.title, boundary.accent) == ("boundary", BOUNDARY)
    assert [m.title for m in masks] == ["composed", *(f"step {n}" for n in (4, 8, 10, 11)),
                                        "step 12, the mask"]  # fmt: skip
    assert masks[-1].note == f"IoU {float(view.trained.iou[known]):.3f}"
    large = step_row(view, formed, known, 12).tiles
    assert [t.title for t in large] == ["boundary", "step 12, the mask"]
    assert large[1].picture.shape[0] > 2 * masks[-1].picture.shape[0]
    sheet = forming_sheet(view, known)
    assert len(png(sheet)) < 200_000
    shown = np.asarray(sheet)
    windows = np.lib.stride_tricks.sliding_window_view(shown[..., 2], masks[-1].picture.shape[:2])
    last = masks[-1].picture[..., 2]
    assert (windows[::1, :, ::16, ::16] == last[::16, ::16]).all((2, 3)).any()


def test_what_no_boundary_bounds_is_shown_without_one(build: Build, subject: Subject) -> None:
    model = build("b2inst-blendmask-tiny", refine={"diffusion": {"guided": False, "steps": 2}})
    view = look(model, subject)
    formed = view.form(0, [1.0] * view.num_bases)
    assert [tile.title for tile in forming_row(view, formed, 0).tiles] == [
        "composed",
        "step 1",
        "step 2, the mask",
    ]


def test_a_sheet_needs_steps(build: Build, subject: Subject) -> None:
    with pytest.raises(ValueError, match="no steps"):
        forming_sheet(look(build(), subject), 0)
