"""The explorer's pictures: an image with its bases, and one instance taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from b2inst.ops.quality import mask_iou
from b2inst.viz.boundaries import target_at, taught, two_sided
from b2inst.viz.draw import contrasting_colours
from b2inst.viz.explore.composition import Contributions
from b2inst.viz.explore.lens import (
    GAINED,
    LINE,
    LOST,
    MASK,
    TRUTH,
    UNIT,
    Lens,
    Values,
    coloured,
    common_limit,
    signed,
)
from b2inst.viz.explore.tiles import BOUNDARY, PLAIN, Row, Tile, sheet, tile_side
from b2inst.viz.explore.view import Outcome, View, overlaps

_COLUMNS = 9  # bases in a row of the overview
_SHOWN = 7  # bases of an instance that are shown; of more, those that contribute most
_STRONG = 0.4  # class score from which instances are drawn in the overview


def overview_rows(view: View, instance: int | None = None, beside: View | None = None) -> list[Row]:
    """The image with what was found, what is true and the boundary; then all K bases.

    Args:
        instance: to be framed.
        beside: another model before the same image.
    """
    lens = Lens.whole(view.subject.image, tile_side(5))
    truth = view.subject.truth
    views = [view] if beside is None else [beside, view]
    tiles = [_instances(v, lens, instance if v is view else None) for v in views]
    if len(truth):
        picture = lens.photo(faded=0.4)
        for mask in truth.masks:
            picture = lens.tinted(picture, mask, TRUTH, 0.4)
        tiles.append(Tile(picture, "ground truth", f"{len(truth)} objects"))
        target = target_at(truth.masks, view.explanation, two_sided=two_sided(view.model))
        line = coloured(lens.sample(target.numpy(), view.content_extent), LINE)
        known = taught(view.model)
        note, accent = ("what it is taught", BOUNDARY) if known else ("not taught to it", PLAIN)
        tiles.append(Tile(line, "boundary target", note, accent))
    if (boundary := view.explanation.boundary) is not None:
        line = coloured(lens.sample(boundary.numpy(), view.content_extent), LINE)
        use = "probability; a gate" if view.gated else "probability; no basis"
        note = "probability" if view.boundary_basis is not None else use
        tiles.append(Tile(line, "predicted boundary", note, BOUNDARY))
    return [Row(view.subject.name, tiles), *_all_bases(view)]


def instance_rows(
    view: View,
    outcome: Outcome,
    instance: int,
    factors: Sequence[float],
    beside: View | None = None,
) -> list[Row]:
    """One instance: bases × weights = contributions, and the mask that they add up to.

    Args:
        outcome: of the view with these factors.
        beside: another model before the same image, whose mask in this place is shown.
    """
    apart = view.take_apart(instance, factors)
    shown = _shown(apart, view.boundary_basis)
    box = view.explanation.instances.boxes[instance].tolist()
    lens = Lens.around(view.subject.image, box, tile_side(len(shown) + 2))
    rows = [_bases_there(view, lens, shown, factors)]
    if apart.whole.weights is not None:
        rows.append(_weights(view, lens, shown, apart))
    rows.append(_contributions(view, lens, shown, apart, outcome.instances.masks[instance]))
    closer = Lens.around(view.subject.image, box, tile_side(7))
    return [*rows, _masks(view, closer, apart, outcome, instance, beside)]


def contact_sheet(view: View, instance: int, beside: View | None = None) -> Image.Image:
    """An image and one of its instances, as trained, on one sheet.

    Args:
        instance: place in the view.
        beside: another model before the same image.
    """
    factors = [1.0] * view.num_bases
    rows = overview_rows(view, instance, beside)
    if len(view.explanation.instances):
        rows += instance_rows(view, view.trained, instance, factors, beside)
    return sheet(rows)


def quality(outcome: Outcome, instance: int) -> str:
    """IoU and boundary Dice in a line; nothing where there is no object."""
    iou, dice = float(outcome.iou[instance]), float(outcome.dice[instance])
    return "" if np.isnan(iou) else f"IoU {iou:.2f} · Dice {dice:.2f}"


def counterpart(view: View, instance: int, beside: View) -> int | None:
    """The instance of another view that overlaps an instance most, by half at least."""
    masks = beside.explanation.instances.masks
    if not len(masks):
        return None
    overlap = mask_iou(masks, view.explanation.instances.masks[instance])
    return int(overlap.argmax()) if overlap.max() >= 0.5 else None


def _instances(view: View, lens: Lens, instance: int | None) -> Tile:
    """The strong instances, one in each place, and the one in question on top of them."""
    found = view.explanation.instances
    picture, drawn = lens.photo(), list[int]()
    same = overlaps(found.masks, found.masks) >= 0.5
    for i, score in enumerate(found.class_scores.tolist()):
        if score >= _STRONG and i != instance:
            earlier = [*drawn, *([] if instance is None else [instance])]
            if not same[i, earlier].any():
                drawn.append(i)
    colours = contrasting_colours(view.subject.image, found.masks[drawn].numpy())
    for i, (r, g, b) in reversed(list(zip(drawn, colours, strict=True))):
        picture = lens.tinted(picture, found.masks[i], f"#{r:02x}{g:02x}{b:02x}", 0.2)
    if instance is not None and len(found):
        picture = lens.tinted(picture, found.masks[instance], MASK, 0.7)
        picture = lens.outlined(picture, found.masks[instance], "#FFFFFF")
        return Tile(picture, view.name, f"blue: instance {instance + 1} of {len(found)}")
    return Tile(picture, view.name, f"{len(found)} instances")


def _all_bases(view: View) -> list[Row]:
    height, width = view.explanation.content
    maps = view.explanation.bases.maps[0, :, :height, :width].numpy()
    lens = Lens.whole(view.subject.image, tile_side(min(len(maps), _COLUMNS)))
    tiles = []
    for k, limit in enumerate(_limits(maps)):
        picture = signed(lens.sample(maps[k], view.content_extent), limit)
        tiles.append(Tile(picture, view.basis_names[k], f"±{limit:.2g}", _accents(view)[k]))
    label = f"The {len(maps)} bases\nteal +, brown −, full colour at what stands below"
    return [
        Row("" if start else label, tiles[start : start + _COLUMNS])
        for start in range(0, len(tiles), _COLUMNS)
    ]


def _bases_there(view: View, lens: Lens, shown: Sequence[int], factors: Sequence[float]) -> Row:
    maps = view.explanation.bases.maps[0].numpy()
    crops = [lens.sample(maps[k], view.grid_extent) for k in shown]
    tiles = []
    for k, crop, limit in zip(shown, crops, _limits(crops), strict=True):
        scaled = "" if factors[k] == 1 else f", times {factors[k]:.1f}"
        note = "off" if factors[k] == 0 else f"±{limit:.2g}{scaled}"
        picture = signed(crop * factors[k], limit)
        tiles.append(Tile(picture, view.basis_names[k], note, _accents(view)[k]))
    return Row("Bases, here\nteal +, brown −; grey: beyond image or box", tiles)


def _weights(view: View, lens: Lens, shown: Sequence[int], apart: Contributions) -> Row:
    """Attention maps, or a coefficient each as a plain colour."""
    assert apart.whole.weights is not None
    maps = apart.whole.weights.numpy()
    extent = view.in_image(apart.whole.extent)
    single = maps.shape[1:] == (1, 1)
    tiles = []
    for k in shown:
        crop = lens.sample(maps[k], extent)
        picture = signed(crop, 1.0) if single else coloured(crop, UNIT)
        note = f"{maps[k].mean():.2f}" if single else f"mean {maps[k].mean():.2f}"
        tiles.append(Tile(picture, note=note, accent=_accents(view)[k]))
    label = "× coefficient\nteal +, brown −, full colour at ±1"
    return Row(label if single else "× attention\n0 dark, 1 bright", tiles)


def _contributions(
    view: View, lens: Lens, shown: Sequence[int], apart: Contributions, outline: Tensor
) -> Row:
    """All on one scale, so that they can be compared; the boundary's once more on its own."""
    extent = view.in_image(apart.whole.extent)
    parts = {k: lens.sample(apart.parts[k].numpy(), extent) for k in shown}
    whole = lens.sample(apart.whole.logits.numpy(), extent)
    limit = common_limit([*parts.values(), whole])

    def drawn(values: Values, limit: float, note: str, accent: str, title: str = "") -> Tile:
        picture = lens.outlined(signed(values, limit), outline, PLAIN)
        return Tile(picture, title, note, accent)

    tiles = [
        drawn(values, limit, f"{apart.shares[k]:.0%} of all", _accents(view)[k])
        for k, values in parts.items()
    ]
    total = "sum of all: logits" if apart.additive else "logits, not a sum"
    tiles.append(drawn(whole, limit, total, PLAIN))
    if (boundary := view.boundary_basis) is not None:
        own = common_limit([parts[boundary]])
        note = f"full colour at ±{own:.2g}" if apart.parts[boundary].any() else "0 everywhere"
        tiles.append(drawn(parts[boundary], own, note, BOUNDARY, "boundary, its own scale"))
    label = "= contribution" if apart.additive else "What goes if it is off"
    label += f", before the {view.refined_by}" if view.steps else ""
    scale = f"full colour at ±{limit:.2g}" if apart.whole.logits.any() else "0 everywhere"
    return Row(f"{label}\n{scale}; line: the mask", tiles)


def _masks(
    view: View,
    lens: Lens,
    apart: Contributions,
    outcome: Outcome,
    instance: int,
    beside: View | None,
) -> Row:
    """Before and after what comes last, what the edit changed, the truth, the other model."""
    soft = apart.whole.logits.sigmoid().numpy()
    soft = lens.sample(soft, view.in_image(apart.whole.extent))
    after = f"the {view.refined_by}" if view.steps else "threshold"
    now, trained = outcome.instances.masks[instance], view.explanation.instances.masks[instance]
    photo, faded = lens.photo(faded=0.15), lens.photo(faded=0.6)
    changed = lens.tinted(faded, now & ~trained, GAINED, 0.9)
    changed = lens.tinted(changed, trained & ~now, LOST, 0.9)
    gained, lost = int((now & ~trained).sum()), int((trained & ~now).sum())
    tiles = [
        Tile(coloured(soft, UNIT), "probability", f"before {after}"),
        Tile(lens.tinted(photo, now, MASK), "mask", quality(outcome, instance)),
        Tile(lens.tinted(photo, trained, MASK), "as trained", quality(view.trained, instance)),
        Tile(lens.outlined(changed, trained, PLAIN), "your change", f"+{gained} −{lost} pixels"),
    ]
    if (k := int(view.objects[instance])) >= 0:
        truth = view.subject.truth
        tiles.append(Tile(lens.tinted(photo, truth.masks[k], TRUTH), "true object", truth.names[k]))
    if beside is not None:
        i = counterpart(view, instance, beside)
        picture = (
            photo if i is None else lens.tinted(photo, beside.trained.instances.masks[i], MASK)
        )
        note = "not found" if i is None else quality(beside.trained, i)
        tiles.append(Tile(picture, beside.name, note))
    return Row("The mask\nsky blue: gained, purple: lost", tiles)


def _shown(apart: Contributions, boundary: int | None) -> list[int]:
    """The bases that contribute most, and the boundary whatever it does."""
    strongest = apart.shares.argsort(descending=True).tolist()
    if boundary is not None:
        strongest.remove(boundary)
        strongest.insert(0, boundary)
    return sorted(strongest[:_SHOWN])


def _limits(maps: Iterable[Values]) -> list[float]:
    """Full colour of each map by its own values; what is next to nothing stays pale."""
    limits = [common_limit([values]) for values in maps]
    return [max(limit, max(limits) / 50) for limit in limits]


def _accents(view: View) -> list[str]:
    return [BOUNDARY if k == view.boundary_basis else PLAIN for k in range(view.num_bases)]
