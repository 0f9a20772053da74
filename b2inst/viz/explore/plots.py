"""The explorer's figures: an image with its bases, one instance taken apart, a mask refined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from torch import Tensor

from b2inst.viz.boundaries import target_at, taught, two_sided
from b2inst.viz.draw import draw_instances
from b2inst.viz.explore.composition import Extent
from b2inst.viz.explore.inspection import Example, Inspection, Rated, overlaps
from b2inst.viz.picture import PictureFigure

PLAIN, BOUNDARY = "#444444", "#D55E00"  # frames: all that is the boundary's in vermilion
MASK, TRUTH, GAINED, LOST = "#0072B2", "#009E73", "#56B4E9", "#CC79A7"
_LINE = LinearSegmentedColormap.from_list("boundary", ["white", BOUNDARY, "#4A1F00"])
_BLUE = LinearSegmentedColormap.from_list("mask", ["white", MASK])
_COLUMNS, _SHOWN = 9, 7  # bases in a row; of an instance, those that contribute most


def overview(
    view: Inspection, instance: int | None = None, beside: Inspection | None = None
) -> PictureFigure:
    """The image with what was found, what is true, and the boundary.

    Args:
        instance: to be framed.
        beside: another model before the same image.
    """
    truth, content = view.sample.truth, view.cells(*view.explanation.content)
    figure, ((first, second, third, fourth, fifth),) = _grid(1, 5, _image(view))
    first.set_ylabel(view.sample.name, fontsize=8)
    _instances(first, view, instance)
    if beside is not None:
        _instances(second, beside, None)
    if len(truth):
        _photo(third, view, 0.6)
        for mask in truth.masks:
            _mask(third, mask, TRUTH)
        _caption(third, "ground truth", f"{len(truth)} objects")
        target = target_at(truth.masks, view.explanation, two_sided=two_sided(view.model))
        _map(fourth, target, content, _LINE)
        note, colour = ("what it is taught", BOUNDARY) if taught(view.model) else ("", PLAIN)
        _caption(fourth, "boundary target", note, colour)
    if (boundary := view.explanation.boundary) is not None:
        _map(fifth, boundary, content, _LINE)
        use = "a gate" if view.gated else "no basis" if view.boundary_basis is None else "a basis"
        _caption(fifth, "predicted boundary", f"probability; {use}", BOUNDARY)
    return figure


def all_bases(view: Inspection) -> PictureFigure:
    """The K bases over the image: teal where positive, brown where negative."""
    maps = view.explanation.bases.maps[0]
    figure, axes = _grid(-(-len(maps) // _COLUMNS), min(len(maps), _COLUMNS), _image(view))
    for ax, values, k in zip(axes.flat, maps, range(len(maps)), strict=False):
        limit = _limit(values, maps)
        _signed(ax, values, view.cells(*values.shape), limit)
        _caption(ax, view.basis_names[k], f"±{limit:.2g}", _colour(view, k))
    return figure


def instance_figure(
    view: Inspection, i: int, factors: tuple[float, ...], beside: Inspection | None = None
) -> PictureFigure:
    """One instance: bases × weights = contributions, and the mask that they add up to.

    Args:
        factors: K, what each basis is multiplied by.
        beside: another model before the same image, whose mask in this place is shown.
    """
    (whole, parts, weights), (_, rated) = view.take_apart(i, factors), view.recompose(factors)
    extent, (maps,) = view.in_image(whole.extent), view.explanation.bases.maps
    sizes, boundary = parts.abs().mean((1, 2)), view.boundary_basis
    order = sizes.argsort(descending=True).tolist()
    plain = weights is not None and weights.shape[1:] == (1, 1)
    shown = sorted(sorted(order, key=lambda k: k != boundary)[:_SHOWN])
    figure, axes = _grid(3 + (weights is not None), max(len(shown) + 2, 6), _around(view, i))
    (first, *middle, last), limit, total = axes, _limit(parts[shown]), sizes.sum().clamp(min=1e-12)
    for column, k in enumerate(shown):
        colour, own = _colour(view, k), _limit(maps[k], maps)
        _signed(first[column], maps[k] * factors[k], view.cells(*maps[k].shape), own)
        note = "off" if factors[k] == 0 else f"±{own:.2g}, times {factors[k]:.1f}"
        _caption(first[column], view.basis_names[k], note, colour)
        if weights is not None:
            _map(middle[0][column], weights[k], extent, *(("BrBG", -1) if plain else ("cividis",)))
            _caption(middle[0][column], "", f"mean {float(weights[k].mean()):.2f}", colour)
        _signed(middle[-1][column], parts[k], extent, limit)
        _caption(middle[-1][column], "", f"{sizes[k] / total:.0%}", colour)
    sums, enlarged = middle[-1][len(shown) :][:2]
    _signed(sums, whole.values[0], extent, limit)
    _caption(sums, "logits", "not a sum" if weights is None else "sum of all")
    if boundary is not None:
        own = _limit(parts[boundary])
        _signed(enlarged, parts[boundary], extent, own)
        _caption(enlarged, "boundary, enlarged", f"±{own:.2g}", BOUNDARY)
    for ax in middle[-1]:
        _outline(ax, rated.masks[i], PLAIN)
    labels = ["bases, here", *["× coefficient" if plain else "× attention"] * (len(middle) - 1)]
    labels.append(f"{'lost if off' if weights is None else '= contribution'}, ±{limit:.2g}")
    for row, label in zip(axes, labels, strict=False):
        row[0].set_ylabel(label, fontsize=8)
    _last_row(last, view, rated, i, beside)
    _map(last[0], whole.values[0].sigmoid(), extent, "cividis")
    return figure


def refinement_figure(
    view: Inspection, i: int, factors: Sequence[float] | None = None, step: int | None = None
) -> PictureFigure:
    """The boundary in an instance's box, and its mask after one step, or after chosen ones.

    Args:
        factors: K, what each basis is multiplied by (default: as trained).
        step: 0, as composed, to S; None for those that show most.

    Raises:
        ValueError: the model's masks are not refined.
    """
    steps = chosen_steps(view.steps) if step is None else [step]
    figure, (axes,) = _grid(1, len(steps) + 1, _around(view, i))
    _refinement(axes, view, i, factors or view.as_trained, steps)
    return figure


def examples_figure(found: Sequence[Example]) -> PictureFigure:
    """Refinements, a row each: the mask that gains most, the median, and the one that gains least.

    Args:
        found: at least one, of a model with a refinement.
    """
    ranked = sorted(found, key=lambda example: example.gain)
    steps = chosen_steps(ranked[0].inspection.steps)
    figure, rows = _grid(3, len(steps) + 1, _around(*ranked[0][::2]))
    for axes, name, place in zip(
        rows, ("most", "median", "least"), (-1, (len(ranked) - 1) // 2, 0), strict=True
    ):
        view, _, i, gain = ranked[place]
        _refinement(axes, view, i, view.as_trained, steps)
        axes[0].set_ylabel(f"{name} gained\nof {len(ranked)}: {gain:+.3f}", fontsize=8)
    return figure


def chosen_steps(count: int) -> list[int]:
    """0, the last, and the powers of 2 before it: the steps of a diffusion grow."""
    return [0, *(count - 2**i for i in reversed(range(count.bit_length())) if 2**i < count), count]


def _last_row(
    axes: Sequence[Axes], view: Inspection, rated: Rated, i: int, beside: Inspection | None
) -> None:
    """Before and after what comes last, what the edit changed, the truth, the other model."""
    now, trained, k = rated.masks[i], view.instances.masks[i], int(view.objects[i])
    gained, lost = now & ~trained, trained & ~now
    _caption(axes[0], "probability", f"before the {view.refined_by if view.steps else 'threshold'}")
    change = f"+{int(gained.sum())} −{int(lost.sum())} pixels"
    panels = [
        ("mask", rated.text(i), now, MASK),
        ("as trained", view.trained.text(i), trained, MASK),
        ("your change", change, gained, GAINED),
    ]
    if k >= 0:
        truth = view.sample.truth
        panels.append(("true object", truth.names[k], truth.masks[k], TRUTH))
    if beside is not None:
        overlap = overlaps(trained[None], beside.instances.masks)[0]
        best = int(overlap.argmax()) if len(overlap) and overlap.max() >= 0.5 else None
        other = torch.zeros_like(trained) if best is None else beside.instances.masks[best]
        note = "not found" if best is None else beside.trained.text(best)
        panels.append((beside.name, note, other, MASK))
    for ax, (title, note, mask, colour) in zip(axes[1:], panels, strict=False):
        _photo(ax, view, 0.4 if mask is gained else 0.85)
        _mask(ax, mask, colour)
        _caption(ax, title, note)
    _mask(axes[3], lost, LOST)
    _outline(axes[3], trained, PLAIN)


def _refinement(
    axes: Sequence[Axes], view: Inspection, i: int, factors: Sequence[float], steps: Sequence[int]
) -> None:
    rated, logits = view.refine(i, factors)
    left, right, top, bottom = _around(view, i)
    for ax in axes:
        ax.set(xlim=(left, right), ylim=(bottom, top))
    extent, k = view.in_image(logits.extent), int(view.objects[i])
    if view.gated and logits.boundary is not None:
        _map(axes[0], logits.boundary, extent, _LINE)
        _caption(axes[0], "boundary", "slows the spread", BOUNDARY)
    for ax, step in zip(axes[1:], steps, strict=True):
        _photo(ax, view, 0.6, grey=True)
        _map(ax, logits.values[step].sigmoid(), extent, _BLUE, alpha=0.6)
        if k >= 0:
            _outline(ax, view.sample.truth.masks[k], TRUTH, 2.5)
        _outline(ax, rated.masks[step], "#002B49")
        title = "composed" if step == 0 else f"step {step}" + ", the mask" * (step == view.steps)
        _caption(ax, title, rated.text(step))


def _instances(ax: Axes, view: Inspection, instance: int | None) -> None:
    """The strong instances, one in each place, and the one in question on top of them."""
    found, drawn = view.instances, list[int]()
    top = [] if instance is None or not len(found) else [instance]
    same = overlaps(found.masks, found.masks) >= 0.5
    for i, score in enumerate(found.class_scores.tolist()):
        if score >= 0.4 and i != instance and not same[i, [*drawn, *top]].any():
            drawn.append(i)
    strong = found[torch.tensor(drawn, dtype=torch.int64)]
    picture = draw_instances(view.sample.image, strong, score_threshold=0, captions=False)
    left, right, top_edge, bottom = _image(view)
    ax.imshow(picture, extent=(left, right, bottom, top_edge))
    for i in top:
        _mask(ax, found.masks[i], MASK, 0.7)
        _outline(ax, found.masks[i], "white")
    note = f"blue: instance {top[0] + 1} of {len(found)}" if top else f"{len(found)} instances"
    _caption(ax, view.name, note)


def _grid(rows: int, columns: int, window: Extent) -> tuple[PictureFigure, Any]:
    """A figure 11 inches wide and its axes in pixels of the image, hidden until they are captioned.

    Args:
        window: what of the image all of them show.
    """
    left, right, top, bottom = window
    side = min(10.6 / columns - 0.12, 4.0 if columns <= 2 else 2.0)
    side *= min(1.0, (right - left) / (bottom - top))
    height = rows * (side * (bottom - top) / (right - left) + 0.45)
    figure = PictureFigure(figsize=(11, height), dpi=100, facecolor="white")
    edge = 0.25 + columns * (side + 0.12) - 0.12
    gaps = {"wspace": 0.12 / side, "hspace": 0.45 * rows / (height - 0.45 * rows)}
    figure.subplots_adjust(0.25 / 11, 0.25 / height, edge / 11, 1 - 0.2 / height, **gaps)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="#ECECEC")
        ax.set_visible(False)
    return figure, axes


def _caption(ax: Axes, title: str, note: str, colour: str = PLAIN) -> None:
    ax.set_visible(True)
    ax.set_title(title, fontsize=8, loc="left", pad=3, color=colour)
    ax.set_xlabel(note, fontsize=8, loc="left", labelpad=3)
    ax.spines[:].set(color=colour, linewidth=1 if colour == PLAIN else 2.5)


def _image(view: Inspection) -> Extent:
    height, width = view.sample.image.shape[:2]
    return (0.0, float(width), 0.0, float(height))


def _around(view: Inspection, i: int) -> Extent:
    """A square around an instance's box, somewhat larger."""
    x1, y1, x2, y2 = view.instances.boxes[i].tolist()
    half, x, y = max(x2 - x1, y2 - y1, 8.0) * 0.65, (x1 + x2) / 2, (y1 + y2) / 2
    return (x - half, x + half, y - half, y + half)


def _photo(ax: Axes, view: Inspection, opacity: float = 1.0, *, grey: bool = False) -> None:
    image = view.sample.image.mean(2) if grey else view.sample.image
    height, width = image.shape[:2]
    ax.imshow(image, "gray", vmin=0, vmax=255, alpha=opacity, extent=(0, width, height, 0))


def _map(
    ax: Axes, values: Tensor, extent: Extent, cmap: Any, low: float = 0, alpha: float = 1.0
) -> None:
    """The cells of a map as they are, from ``low`` to 1."""
    left, right, top, bottom = extent
    looks: dict[str, Any] = {"extent": (left, right, bottom, top), "interpolation": "nearest"}
    ax.imshow(values.numpy(), cmap, vmin=low, vmax=1, alpha=alpha, **looks)


def _signed(ax: Axes, values: Tensor, extent: Extent, limit: float) -> None:
    """Teal where positive, brown where negative: what colour-blind readers tell apart."""
    _map(ax, values / limit, extent, "BrBG", low=-1)


def _mask(ax: Axes, mask: Tensor, colour: str, opacity: float = 0.5) -> None:
    height, width = mask.shape
    tint = np.zeros((height, width, 4))
    tint[mask.numpy().astype(bool)] = (*to_rgb(colour), opacity)
    ax.imshow(tint, extent=(0, width, height, 0), interpolation="nearest")
    _outline(ax, mask, colour)


def _outline(ax: Axes, mask: Tensor, colour: str, width: float = 1.2) -> None:
    padded = np.pad(mask.numpy().astype(float), 1)
    y, x = (np.arange(size) - 0.5 for size in padded.shape)
    if padded.any():
        ax.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width)


def _limit(values: Tensor, among: Tensor | None = None) -> float:
    """What ± is full colour: all but 1 % of the values; at least 2 % of the most ``among`` maps."""
    least = 0.0 if among is None else max(_limit(one) for one in among) / 50
    own = float(np.percentile(values.abs().numpy(), 99)) if values.numel() else 0.0
    return max(own, least, 1e-6)


def _colour(view: Inspection, basis: int) -> str:
    return BOUNDARY if basis == view.boundary_basis else PLAIN
