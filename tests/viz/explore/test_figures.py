from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from b2inst.models import BasisSegmenter
from b2inst.viz.explore.figures import (
    contact_sheet,
    counterpart,
    instance_rows,
    overview_rows,
    quality,
)
from b2inst.viz.explore.opening import opening
from b2inst.viz.explore.ranking import ranking_frame
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.tiles import BOUNDARY, PLAIN, Row, Tile, png, sheet, tile_side
from b2inst.viz.explore.view import View, look
from b2inst.viz.explore.words import describe

Build = Callable[..., BasisSegmenter]


@pytest.fixture(scope="module")
def views(build: Build, subject: Subject) -> dict[str, View]:
    names = ("blendmask-tiny", *(f"b2inst-{f}-tiny" for f in ("blendmask", "yolact", "condinst")))
    return {name: look(build(name), subject, name=name) for name in names}


def rows_of(
    view: View, factors: list[float] | None = None, beside: View | None = None
) -> list[Row]:
    factors = factors or [1.0] * view.num_bases
    return instance_rows(view, view.recompose(factors), 0, factors, beside)


def test_a_sheet_holds_its_tiles_pixel_by_pixel() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    rows = [Row("label", [Tile(drawn, "title", "note"), Tile(drawn[::-1], accent=BOUNDARY)])] * 2
    shown = np.asarray(Image.open(io.BytesIO(png(sheet(rows)))).convert("RGB"))
    assert shown.shape[1] == 1100
    windows = np.lib.stride_tricks.sliding_window_view(shown[..., 0], (40, 50))
    for tile in (drawn, drawn[::-1]):
        places = (windows[..., ::8, ::8] == tile[::8, ::8, 0]).all((2, 3)).nonzero()
        assert len(places[0]) == 2
        y, x = places[0][0], places[1][0]
        assert (shown[y : y + 40, x : x + 50] == tile).all()


@pytest.mark.parametrize("columns", [1, 3, 5, 9])
def test_tiles_fit_in_a_row(columns: int) -> None:
    side = tile_side(columns)
    tile = Tile(np.zeros((side, side, 3), dtype=np.uint8))
    shown = np.asarray(Image.open(io.BytesIO(png(sheet([Row("", [tile] * columns)])))))
    dark = (shown[..., :3].max((0, 2)) > 0) & (shown[side // 2, :, 0] == 0)
    assert dark.sum() >= side * columns  # nothing is cut off at the right


def test_an_overview_shows_every_basis_and_frames_the_boundary(views: dict[str, View]) -> None:
    for name, view in views.items():
        first, *bases = overview_rows(view, 0)
        titles = [tile.title for row in bases for tile in row.tiles]
        assert titles == view.basis_names
        framed = [t.title for row in (first, *bases) for t in row.tiles if t.accent == BOUNDARY]
        assert ("boundary" in framed) == name.startswith("b2inst")
        assert "ground truth" in [tile.title for tile in first.tiles]


def test_a_gate_is_in_the_boundarys_colour_but_no_basis(build: Build, subject: Subject) -> None:
    view = look(build("gated-blendmask-tiny"), subject)
    first, *bases = overview_rows(view, 0)
    assert [t.accent for row in bases for t in row.tiles] == [PLAIN] * 4
    predicted = next(tile for tile in first.tiles if tile.title == "predicted boundary")
    assert (predicted.note, predicted.accent) == ("probability; a gate", BOUNDARY)
    assert next(t for t in first.tiles if t.title == "boundary target").accent == BOUNDARY
    *_, parts, mask = rows_of(view)
    assert "before the gate" in parts.label
    assert mask.tiles[0].note == "before the gate"


def test_an_instance_is_an_equation_then_a_mask(views: dict[str, View]) -> None:
    view = views["b2inst-blendmask-tiny"]
    bases, weights, parts, mask = rows_of(view, beside=views["blendmask-tiny"])
    assert [tile.title for tile in bases.tiles] == view.basis_names
    assert len(weights.tiles) == 5
    assert len(parts.tiles) == 7  # the sum, and the boundary on a scale of its own
    shares = [float(tile.note.split("%")[0]) for tile in parts.tiles[:5]]
    assert sum(shares) == pytest.approx(100, abs=3)
    assert mask.tiles[-1].title == "blendmask-tiny"


def test_of_many_bases_the_strongest_are_shown_and_the_boundary(views: dict[str, View]) -> None:
    view = views["b2inst-yolact-tiny"]
    shown = [tile.title for tile in rows_of(view)[0].tiles]
    assert len(shown) == 7
    assert shown[-1] == "boundary"
    shares = dict(zip(view.basis_names, view.take_apart(0, [1.0] * 10).shares, strict=True))
    left_out = [name for name in view.basis_names if name not in shown]
    assert max(shares[n] for n in left_out) <= min(shares[n] for n in shown[:-1])


def test_what_is_no_sum_has_no_weights_and_says_so(views: dict[str, View]) -> None:
    rows = rows_of(views["b2inst-condinst-tiny"])
    assert len(rows) == 3
    assert "off" in rows[1].label
    assert "not a sum" in [tile.note for tile in rows[1].tiles][-2]


def test_a_basis_that_is_off_is_blank_and_its_pixels_are_counted(views: dict[str, View]) -> None:
    view = views["b2inst-condinst-tiny"]
    factors = [1.0] * 8 + [-2.0]
    rows = rows_of(view, factors)
    after = view.recompose(factors).instances.masks[0]
    before = view.explanation.instances.masks[0]
    gained, lost = (after & ~before).sum(), (before & ~after).sum()
    assert gained + lost > 0
    assert f"+{gained} −{lost} pixels" in [tile.note for tile in rows[-1].tiles]
    off = rows_of(view, [1.0] * 8 + [0.0])[0].tiles[-1]
    assert off.note == "off"
    assert len(np.unique(off.picture)) <= 3  # the middle of the colours, and what is beyond


def test_a_counterpart_is_where_the_instance_is(views: dict[str, View]) -> None:
    view = views["b2inst-blendmask-tiny"]
    for i in range(len(view.explanation.instances)):
        if view.explanation.instances.masks[i].any():
            same = counterpart(view, i, view)
            assert same is not None
            masks = view.explanation.instances.masks
            assert masks[same].equal(masks[i])
    none = replace(view.explanation.instances, masks=torch.zeros((6, 48, 64), dtype=torch.bool))
    empty = replace(view, explanation=replace(view.explanation, instances=none[:0]))
    assert counterpart(view, 0, empty) is None


def test_quality_is_silent_where_there_is_no_object(views: dict[str, View]) -> None:
    outcome = views["blendmask-tiny"].trained
    unknown = replace(outcome, iou=torch.full_like(outcome.iou, torch.nan))
    assert quality(unknown, 0) == ""
    known = replace(outcome, iou=outcome.iou * 0 + 0.25, dice=outcome.dice * 0 + 0.5)
    assert quality(known, 0) == "IoU 0.25 · Dice 0.50"


def test_a_contact_sheet_of_an_image_without_instances(build: Build, subject: Subject) -> None:
    model = build()
    torch.nn.init.constant_(model.instance_head.class_logits.bias, -50)  # type: ignore[union-attr,arg-type]
    view = look(model, subject)
    assert len(view.explanation.instances) == 0
    assert png(contact_sheet(view, 0)).startswith(b"\x89PNG")
    assert describe(view, 0, 4) == ["Nothing is found in this image."]
    assert opening(model, [subject]).reason == "In the first 1 images no object is found."
    assert len(ranking_frame(view, view.trained, {"class": 1, "iou": 1, "boundary": 1})) == 0
