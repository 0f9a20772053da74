"""The explorer's figures: an image with its bases, one instance taken apart, a mask refined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from b2inst.ops.quality import mask_iou
from b2inst.viz.draw import draw_instances
from b2inst.viz.explore.composition import Extent
from b2inst.viz.explore.inspection import Example, Inspection, RatedMasks
from b2inst.viz.figure import DisplayedFigure
from b2inst.viz.qualitative import gated, true_boundary

PLAIN, BOUNDARY = "#444444", "#D55E00"  # frames; those of the boundary are orange
MASK, TRUTH, GAINED, LOST = "#0072B2", "#009E73", "#56B4E9", "#CC79A7"
_LINE = LinearSegmentedColormap.from_list("boundary", ["white", BOUNDARY, "#4A1F00"])
_BLUE = LinearSegmentedColormap.from_list("mask", ["white", MASK])
# Teal where positive, brown where negative, which colour-blind readers can distinguish.
_SIGNED = ("BrBG", -1)
_COLUMNS, _SHOWN = 9, 7  # bases in a row; of an instance, those that contribute most


def overview(
    view: Inspection, instance: int | None = None, beside: Inspection | None = None
) -> DisplayedFigure:
    """Draw the image with its instances, the ground truth, the boundary target and the boundary.

    Args:
        view: Inspection of the image.
        instance: Index of an instance that is marked in blue.
        beside: Inspection of the same image by another model.
    """
    truth, content = view.sample.truth, view.cells(*view.explanation.content)
    views = [view] if beside is None else [view, beside]
    figure, ((*firsts, second, third, fourth),) = _grid(1, len(views) + 3, _image(view))
    for axis, seen in zip(firsts, views, strict=True):
        found = seen.instances
        strong, note = found[found.class_scores >= 0.4], f"instances: {len(found)}"
        picture = draw_instances(view.sample.image, strong, score_threshold=0, captions=False)
        _show(axis, picture, _image(view))
        if instance is not None and seen is view:
            _mask(axis, found.masks[instance], MASK, 0.7)
            note = f"blue: instance {instance + 1} of {len(found)}"
        _caption(axis, seen.name, note)
    firsts[0].set_ylabel(view.sample.name, fontsize=8)
    if len(truth):
        _show(second, view.sample.image, _image(view), alpha=0.6)
        for mask in truth.masks:
            _mask(second, mask, TRUTH)
        _caption(second, "ground truth", f"objects: {len(truth)}")
        target = true_boundary(view.model, truth.masks, view.explanation.content)
        _map(third, target, content, _LINE)
        _caption(third, "boundary target", "")
    if (boundary := view.explanation.boundary) is not None:
        _map(fourth, boundary, content, _LINE)
        basis = "no basis" if view.boundary_basis is None else "a basis"
        use = "a gate" if gated(view.model) else basis
        _caption(fourth, "predicted boundary", f"probability; {use}", BOUNDARY)
    return figure


def all_bases(view: Inspection) -> DisplayedFigure:
    """Draw the K bases: teal where positive, brown where negative."""
    maps = view.explanation.bases.maps[0]
    figure, axes = _grid(-(-len(maps) // _COLUMNS), min(len(maps), _COLUMNS), _image(view))
    for k, (axis, values) in enumerate(zip(axes.flat, maps, strict=False)):
        limit = _limit(values)
        _map(axis, values / limit, view.cells(*values.shape), *_SIGNED)
        _caption(axis, view.basis_names[k], f"±{limit:.2g}", _colour(view, k))
    return figure


def instance_figure(
    view: Inspection, i: int, factors: Sequence[float], beside: Inspection | None = None
) -> DisplayedFigure:
    """Draw one instance: bases × weights = contributions, and the mask that they add up to.

    Args:
        view: Inspection of the image.
        i: Index of the instance.
        factors: K factors of the bases.
        beside: Inspection of the same image by another model, whose mask of the object is shown.
    """
    whole, parts, weights = view.take_apart(i, factors)
    extent, (maps,) = view.in_image(whole.extent), view.explanation.bases.maps
    sizes, boundary = parts.abs().mean((1, 2)), view.boundary_basis
    order = sizes.argsort(descending=True).tolist()
    shown = sorted(sorted(order, key=lambda k: k != boundary)[:_SHOWN])
    columns = max(len(shown) + 1, 5 + (beside is not None))
    figure, axes = _grid(3 + (weights is not None), columns, _around(view, i))
    bases, *weighted, sums, masks = axes
    bases[0].set_ylabel("bases, here", fontsize=8)
    sums[0].set_ylabel("lost if off" if weights is None else "= contribution", fontsize=8)
    limit, total = _limit(parts[shown]), sizes.sum().clamp(min=1e-12)
    for base, part, k in zip(bases, sums, shown, strict=False):
        colour, own = _colour(view, k), _limit(maps[k])
        _map(base, maps[k] * factors[k] / own, view.cells(*maps[k].shape), *_SIGNED)
        note = "off" if factors[k] == 0 else f"±{own:.2g}, times {factors[k]:.1f}"
        _caption(base, view.basis_names[k], note, colour)
        _map(part, parts[k] / limit, extent, *_SIGNED)
        _caption(part, "", f"{sizes[k] / total:.0%}, ±{limit:.2g}", colour)
    if weights is not None:
        coefficients = weights.shape[1:] == (1, 1)
        colours = _SIGNED if coefficients else ("cividis", 0)
        weighted[0][0].set_ylabel("× coefficient" if coefficients else "× attention", fontsize=8)
        for axis, k in zip(weighted[0], shown, strict=False):
            _map(axis, weights[k], extent, *colours)
            _caption(axis, "", f"mean {float(weights[k].mean()):.2f}", _colour(view, k))
    _map(sums[len(shown)], whole.values[0] / limit, extent, *_SIGNED)
    _caption(sums[len(shown)], "logits", "not a sum" if weights is None else "sum of all")
    _map(masks[0], whole.values[0].sigmoid(), extent, "cividis")
    _caption(masks[0], "probability", "before the refinement" if view.steps else "of the logits")
    rated, _ = view.refine(i, factors)
    for axis in sums:
        _outline(axis, rated.masks[-1], PLAIN)
    _compare_masks(masks[1:], view, i, rated, beside)
    return figure


def _compare_masks(
    axes: Sequence[Axes], view: Inspection, i: int, rated: RatedMasks, beside: Inspection | None
) -> None:
    """The last of ``rated`` masks | that as trained | their difference | the object | beside."""
    mask, trained = rated.masks[-1], view.instances.masks[i]
    k, truth = int(view.objects[i]), view.sample.truth
    gained, lost = mask & ~trained, trained & ~mask
    panels = [
        ("mask", rated.text(-1), mask, MASK),
        ("as trained", view.rated.text(i), trained, MASK),
        ("your change", f"+{int(gained.sum())} −{int(lost.sum())} pixels", gained, GAINED),
    ]
    if k >= 0:
        panels.append(("true object", truth.names[k], truth.masks[k], TRUTH))
    if beside is not None:
        masks, note, other = beside.instances.masks, "not found", torch.zeros_like(trained)
        overlaps = mask_iou(masks, trained.expand_as(masks))
        if len(masks) and overlaps.max() >= 0.5:
            best = int(overlaps.argmax())
            note, other = beside.rated.text(best), masks[best]
        panels.append((beside.name, note, other, MASK))
    for axis, (title, note, part, colour) in zip(axes, panels, strict=False):
        opacity = 0.4 if part is gained else 0.85
        _show(axis, view.sample.image, _image(view), alpha=opacity)
        _mask(axis, part, colour)
        _caption(axis, title, note)
    _mask(axes[2], lost, LOST)
    _outline(axes[2], trained, PLAIN)


def refinement_figure(
    view: Inspection, i: int, factors: Sequence[float] | None = None, step: int | None = None
) -> DisplayedFigure:
    """Draw the predicted boundary and the mask of an instance after steps of its refinement.

    Args:
        view: Inspection of the image.
        i: Index of the instance.
        factors: K factors of the bases (default: as trained).
        step: Step to draw, 0 to S, where 0 is the composed mask (default: some of all steps).
    """
    steps = _chosen_steps(view.steps) if step is None else [step]
    figure, (axes,) = _grid(1, len(steps) + 1, _around(view, i))
    _refinement(axes, view, i, factors or view.as_trained, steps)
    return figure


def examples_figure(found: Sequence[Example]) -> DisplayedFigure:
    """Draw three refinements in rows: the mask that gains most, the median, and the least.

    Args:
        found: At least one example of a model with a refinement.
    """
    ranked = sorted(found, key=lambda example: example.gain)
    steps = _chosen_steps(ranked[0].view.steps)
    figure, rows = _grid(3, len(steps) + 1, _around(ranked[0].view, ranked[0].instance))
    names = {"most": -1, "median": (len(ranked) - 1) // 2, "least": 0}
    for axes, (name, place) in zip(rows, names.items(), strict=True):
        view, _, i, gain = ranked[place]
        _refinement(axes, view, i, view.as_trained, steps)
        axes[0].set_ylabel(f"{name} gained\nof {len(ranked)}: {gain:+.3f}", fontsize=8)
    return figure


def _chosen_steps(count: int) -> list[int]:
    """0, the last, and the powers of 2 before it, since the steps of a diffusion grow."""
    return [0, *(count - 2**i for i in reversed(range(count.bit_length())) if 2**i < count), count]


def _refinement(
    axes: Sequence[Axes], view: Inspection, i: int, factors: Sequence[float], steps: Sequence[int]
) -> None:
    rated, logits = view.refine(i, factors)
    left, right, top, bottom = _around(view, i)
    extent, k = view.in_image(logits.extent), int(view.objects[i])
    for axis in axes:
        axis.set(xlim=(left, right), ylim=(bottom, top))
    if gated(view.model) and logits.boundary is not None:
        _map(axes[0], logits.boundary, extent, _LINE)
        _caption(axes[0], "predicted boundary", "slows the spread", BOUNDARY)
    for axis, step in zip(axes[1:], steps, strict=True):
        _show(axis, view.sample.image, _image(view), alpha=0.4)
        _map(axis, logits.values[step].sigmoid(), extent, _BLUE, alpha=0.6)
        if k >= 0:
            _outline(axis, view.sample.truth.masks[k], TRUTH, 2.5)
        _outline(axis, rated.masks[step], "#002B49")
        title = "composed" if step == 0 else f"step {step}" + ", the mask" * (step == view.steps)
        _caption(axis, title, rated.text(step))


def _grid(rows: int, columns: int, window: Extent) -> tuple[DisplayedFigure, Any]:
    """A figure and its axes, which show a part of the image and are hidden until captioned."""
    left, right, top, bottom = window
    ratio = (bottom - top) / (right - left)
    side = min(11 / columns, 2.2) * min(1.0, 1 / ratio)
    size = (columns * side + 0.3, rows * (side * ratio + 0.4))
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02, wspace=0, hspace=0)
    figure = DisplayedFigure(figsize=size, dpi=100, facecolor="white", layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="#ECECEC")
        axis.set_visible(False)
    return figure, axes


def _caption(axis: Axes, title: str, note: str, colour: str = PLAIN) -> None:
    axis.set_visible(True)
    axis.set_title(title, fontsize=8, loc="left", pad=3, color=colour)
    axis.set_xlabel(note, fontsize=8, loc="left", labelpad=3)
    axis.spines[:].set(color=colour, linewidth=1 if colour == PLAIN else 2.5)


def _image(view: Inspection) -> Extent:
    height, width = view.sample.image.shape[:2]
    return (0.0, float(width), 0.0, float(height))


def _around(view: Inspection, i: int) -> Extent:
    """A square around an instance's box, somewhat larger."""
    x1, y1, x2, y2 = view.instances.boxes[i].tolist()
    half, x, y = max(x2 - x1, y2 - y1, 8.0) * 0.65, (x1 + x2) / 2, (y1 + y2) / 2
    return (x - half, x + half, y - half, y + half)


def _show(axis: Axes, picture: Any, extent: Extent, **looks: Any) -> None:
    left, right, top, bottom = extent
    axis.imshow(picture, extent=(left, right, bottom, top), **looks)


def _map(
    axis: Axes, values: Tensor, extent: Extent, cmap: Any, low: float = 0, alpha: float = 1
) -> None:
    """The cells of a map as they are, from ``low`` to 1."""
    looks = {"vmin": low, "vmax": 1, "alpha": alpha, "interpolation": "nearest"}
    _show(axis, values.numpy(), extent, cmap=cmap, **looks)


def _mask(axis: Axes, mask: Tensor, colour: str, opacity: float = 0.5) -> None:
    tint = mask.numpy()[..., None] * np.array(to_rgba(colour, opacity))
    axis.imshow(tint, extent=(0, mask.shape[1], mask.shape[0], 0), interpolation="nearest")
    _outline(axis, mask, colour)


def _outline(axis: Axes, mask: Tensor, colour: str, width: float = 1.2) -> None:
    padded = np.pad(mask.numpy().astype(float), 1)
    y, x = (np.arange(size) - 0.5 for size in padded.shape)
    if padded.any():
        axis.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width)


def _limit(values: Tensor) -> float:
    """The magnitude of full colour, which 1 % of the values exceed."""
    return max(float(np.percentile(values.abs().numpy(), 99)) if values.numel() else 0.0, 1e-6)


def _colour(view: Inspection, basis: int) -> str:
    return BOUNDARY if basis == view.boundary_basis else PLAIN
