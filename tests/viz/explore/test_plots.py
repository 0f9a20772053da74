from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from b2inst.models import BasisSegmenter
from b2inst.viz.explore import plots
from b2inst.viz.explore.inspection import Example, Inspection, basis_frame, inspect_image
from b2inst.viz.explore.plots import BOUNDARY
from b2inst.viz.explore.sources import Sample

Build = Callable[..., BasisSegmenter]


@pytest.fixture(scope="module")
def views(build: Build, sample: Sample) -> dict[str, Inspection]:
    names = ("blendmask-tiny", *(f"b2inst-{f}-tiny" for f in ("blendmask", "yolact", "condinst")))
    return {name: inspect_image(build(name), sample, name=name) for name in names}


def shown(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_visible()]


def rows(figure: Figure) -> list[list[Axes]]:
    """Visible axes, by row."""
    found: dict[int, list[Axes]] = {}
    for ax in shown(figure):
        found.setdefault(ax.get_subplotspec().rowspan.start, []).append(ax)  # type: ignore[union-attr]
    return list(found.values())


def titles(axes: list[Axes]) -> list[str]:
    return [ax.get_title(loc="left") for ax in axes]


def notes(axes: list[Axes]) -> list[str]:
    return [ax.get_xlabel() for ax in axes]


def framed(axes: list[Axes]) -> list[str]:
    """Titles of what is in the boundary's colour."""
    colour = to_rgb(BOUNDARY)
    return titles([ax for ax in axes if to_rgb(ax.spines["left"].get_edgecolor()) == colour])


def test_every_basis_is_shown_and_the_boundary_framed(views: dict[str, Inspection]) -> None:
    for name, view in views.items():
        axes = shown(plots.all_bases(view))
        assert titles(axes) == view.basis_names
        assert framed(axes) == ["boundary"] * name.startswith("b2inst")
        whole = np.concatenate([ax.images[0].get_array().ravel() for ax in axes])
        assert np.abs(np.clip(whole, -1, 1)).max() == 1  # full colour is reached


def test_an_overview(views: dict[str, Inspection]) -> None:
    view = views["b2inst-blendmask-tiny"]
    axes = shown(plots.overview(view, 1, views["blendmask-tiny"]))
    assert titles(axes) == [
        *("b2inst-blendmask-tiny", "blendmask-tiny", "ground truth"),
        *("boundary target", "predicted boundary"),
    ]
    assert notes(axes)[0] == "blue: instance 2 of 6"
    photo = axes[2].images[0]
    np.testing.assert_array_equal(photo.get_array(), view.sample.image)
    assert list(photo.get_extent()) == [0, 64, 48, 0]
    assert axes[0].get_xlim() == (0, 64)
    assert axes[0].get_ylim() == (48, 0)
    probability = axes[-1].images[0].get_array()
    np.testing.assert_allclose(probability, view.explanation.boundary)


def test_a_gate_is_no_basis(build: Build, sample: Sample) -> None:
    view = inspect_image(build("gated-blendmask-tiny"), sample)
    assert framed(shown(plots.all_bases(view))) == []
    axes = shown(plots.overview(view))
    assert notes(axes)[-1] == "probability; a gate"
    assert framed(axes) == ["predicted boundary"]


def test_an_instance_is_an_equation_then_a_mask(views: dict[str, Inspection]) -> None:
    view = views["b2inst-blendmask-tiny"]
    factors = (1.0, 1.0, 1.0, 1.0, -2.0)
    figure = plots.instance_figure(view, 0, factors, views["blendmask-tiny"])
    bases, weights, parts, masks = rows(figure)
    assert titles(bases) == view.basis_names
    assert len(weights) == 5
    assert len(parts) == 6
    own = [values.images[0].get_array() for values in parts]
    np.testing.assert_allclose(sum(own[:5]), own[5], atol=1e-4)
    assert sum(float(note.split("%")[0]) for note in notes(parts)[:5]) == pytest.approx(100, abs=3)
    assert titles(masks) == [
        *("probability", "mask", "as trained", "your change", "true object", "blendmask-tiny")
    ]
    after, before = view.refine(0, factors)[0].masks[-1], view.instances.masks[0]
    gained, lost = (after & ~before).sum(), (before & ~after).sum()
    assert gained + lost > 0
    assert notes(masks)[3] == f"+{gained} −{lost} pixels"
    assert notes(masks)[2] == view.rated.text(0)


def test_of_many_bases_the_strongest_are_shown_and_the_boundary(
    views: dict[str, Inspection],
) -> None:
    view = views["b2inst-yolact-tiny"]
    bases, *_ = rows(plots.instance_figure(view, 0, tuple(view.as_trained)))
    assert len(bases) == 7
    assert titles(bases)[-1] == "boundary"
    shares = basis_frame(view, 0)["share"]
    left_out = shares.drop(titles(bases))
    assert left_out.max() <= shares[titles(bases)[:-1]].min()


def test_what_is_no_sum_has_no_weights_and_a_basis_that_is_off_says_so(
    views: dict[str, Inspection],
) -> None:
    view = views["b2inst-condinst-tiny"]
    bases, parts, _ = rows(plots.instance_figure(view, 0, (*view.as_trained[:-1], 0.0)))
    assert "not a sum" in notes(parts)
    assert notes(bases)[-1] == "off"
    assert (bases[-1].images[0].get_array() == 0).all()


def test_masks_lie_where_they_are() -> None:
    mask = torch.zeros((10, 12), dtype=torch.bool)
    mask[2:5, 3:9] = True
    _, ((ax,),) = plots._grid(1, 1, (0.0, 12.0, 0.0, 10.0))
    plots._mask(ax, mask, "#0000ff", 0.5)
    tint = ax.images[0].get_array()
    assert tint[3, 4].tolist() == [0, 0, 1, 0.5]
    np.testing.assert_array_equal(tint[..., 3] > 0, mask)
    (line,) = ax.collections
    box = line.get_paths()[0].get_extents()
    assert (box.x0, box.y0, box.x1, box.y1) == (3, 2, 9, 5)


def test_full_colour_is_for_nearly_the_largest_values() -> None:
    many = torch.cat([torch.ones(999), torch.tensor([-100.0])])
    assert plots._limit(many) == pytest.approx(1, rel=0.01)  # one in a thousand does not decide
    assert plots._limit(torch.zeros(3)) > 0


def test_steps_are_chosen_densely_at_the_end() -> None:
    assert plots._chosen_steps(12) == [0, 4, 8, 10, 11, 12]
    assert plots._chosen_steps(13) == [0, 5, 9, 11, 12, 13]
    assert plots._chosen_steps(2) == [0, 1, 2]
    assert plots._chosen_steps(1) == [0, 1]


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_a_refinement_goes_from_the_boundary_to_the_mask(
    family: str, build: Build, sample: Sample
) -> None:
    view = inspect_image(build(f"gated-{family}-tiny"), sample)
    known = next(i for i, k in enumerate(view.objects) if k >= 0)
    axes = shown(plots.refinement_figure(view, known))
    steps = [f"step {n}" for n in (4, 8, 10, 11)]
    assert titles(axes) == ["predicted boundary", "composed", *steps, "step 12, the mask"]
    assert framed(axes) == ["predicted boundary"]
    assert notes(axes)[-1] == view.rated.text(known)
    large = shown(plots.refinement_figure(view, known, step=12))
    assert titles(large) == ["predicted boundary", "step 12, the mask"]


def test_what_no_boundary_bounds_is_shown_without_one(build: Build, sample: Sample) -> None:
    model = build("b2inst-blendmask-tiny", refine={"diffusion": {"guided": False, "steps": 2}})
    axes = shown(plots.refinement_figure(inspect_image(model, sample), 0))
    assert titles(axes) == ["composed", "step 1", "step 2, the mask"]


def test_examples_are_the_best_the_median_and_the_worst(build: Build, sample: Sample) -> None:
    view = inspect_image(build("gated-blendmask-tiny"), sample)
    found = [Example(view, 0, i, gain) for i, gain in enumerate((0.1, -0.3, 0.2, 0.0))]
    labels = [row[0].get_ylabel() for row in rows(plots.examples_figure(found))]
    assert labels == [
        *("most gained\nof 4: +0.200", "median gained\nof 4: +0.000", "least gained\nof 4: -0.300"),
    ]
    assert len(rows(plots.examples_figure(found[:1]))) == 3  # one stands for all three
