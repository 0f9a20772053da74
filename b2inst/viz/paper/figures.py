"""The paper's Figs. 1 and 4–9 on our models, and two that it does not have.

Each takes the material and gives a drawing; :func:`b2inst.viz.paper.make_figures` writes them all.
No image is picked by hand: the rule and the number by which an image was chosen stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from b2inst.data.images import as_array, read_image
from b2inst.viz.boundaries import boundary_figure
from b2inst.viz.choose import Choice, pairs, pick
from b2inst.viz.draw import Picture, draw_heat
from b2inst.viz.paper.bases import basis_pictures
from b2inst.viz.paper.closeups import crop_map, draw_closeup, object_gains, window_around
from b2inst.viz.paper.drawing import Drawing
from b2inst.viz.paper.error_counts import error_figure
from b2inst.viz.paper.error_map import count_errors, draw_errors
from b2inst.viz.paper.material import Material, TrainedModel
from b2inst.viz.qualitative import instance_row, picture_grid

_FAMILIES = ("blendmask", "yolact", "condinst")
_PAGE = 7.2  # inches, the width of a text of two columns
_GAIN = (
    "Number: the image's own boundary AP (percent points), the right model less the left; of an "
    "image alone it moves in large steps. Drawn: class score ≥ 0.4, of several in one place the "
    "best-ranked."
)


def fig1(material: Material) -> Drawing:
    """BlendMask | B2Inst | boundary basis: the largest gain and the largest loss."""
    models = _models(material, "blendmask", "b2inst-blendmask")
    choices = _pick(material, ("blendmask", "b2inst-blendmask"), best=1, worst=1)
    rows = [_instances(material, choice, models, boundary=True)[1:] for choice in choices]
    caption = (
        "The paper's Fig. 1: BlendMask, B2Inst and its boundary basis, on the image where B2Inst "
        f"gains most and the one where it loses most. {_GAIN}"
    )
    columns = ["BlendMask", "B2Inst", "boundary basis"]
    return _grid(caption, rows, columns, choices, models)


def fig4(material: Material) -> Drawing:
    """Ground truth | BlendMask | B2Inst | boundary basis, on four images."""
    models = _models(material, "blendmask", "b2inst-blendmask")
    choices = _pick(material, ("blendmask", "b2inst-blendmask"), best=2, worst=1, drawn=1)
    rows = [_instances(material, choice, models, boundary=True) for choice in choices]
    caption = (
        "The paper's Fig. 4: BlendMask, B2Inst and its boundary basis, beside the ground truth; "
        f"two images of largest gain, one of largest loss, one at random. {_GAIN}"
    )
    columns = ["ground truth", "BlendMask", "B2Inst", "boundary basis"]
    return _grid(caption, rows, columns, choices, models)


def fig5(material: Material) -> Drawing:
    """YOLACT | B2Inst-YOLACT | BlendMask | B2Inst-BlendMask."""
    families = ("yolact", "b2inst-yolact", "blendmask", "b2inst-blendmask")
    models = _models(material, *families)
    gains = [material.gains(*families[:2]), material.gains(*families[2:])]
    mean = {image_id: (gain + gains[1][image_id]) / 2 for image_id, gain in gains[0].items()}
    choices = pick(mean, material.candidates, best=2, worst=1, drawn=2)
    rows = [_instances(material, choice, models, side=192) for choice in choices]
    caption = (
        "The paper's Fig. 5: both baselines and B2Inst on them; two images of largest gain, one of "
        "largest loss, two at random. Number: the image's own boundary AP (percent points), B2Inst "
        "less its baseline, mean of the two pairs. Drawn: class score ≥ 0.4, of several in one "
        "place the best-ranked."
    )
    columns = ["ground truth", *(model.name for model in models)]
    return _grid(caption, rows, columns, choices, models)


def fig8(material: Material) -> Drawing:
    """Boundary bases beside their target, images at random."""
    others = [material.find(f"b2inst-{family}") for family in _FAMILIES[1:]]
    models = [material.model("b2inst-blendmask"), *(model for model in others if model)]
    choices = pick({}, material.candidates, drawn=4)
    caption = (
        "The paper's Fig. 8: learned boundary bases, as probabilities, beside the target they are "
        "taught (at the basis grid of the first), on four images at random."
    )
    named = {model.name: model.model for model in models}
    figure = boundary_figure(
        material.index,
        choices,
        named,
        across=2 if len(models) == 1 else 1,
        width=_PAGE / 6 - 0.2,
        note=caption,
    )
    return Drawing(caption, figure, models, choices)


def fig9(material: Material) -> Drawing:
    """Close-ups of objects: BlendMask | B2Inst | boundary basis."""
    models = first, second = _models(material, "blendmask", "b2inst-blendmask")
    records = [material.records[image_id] for image_id in material.candidates]
    gains = object_gains(material.index, records, first.shown, second.shown)
    choices = pick(gains, (), best=3, worst=2, drawn=3)
    where = {a.id: (record, a) for record in records for a in material.index.annotations[record.id]}
    rows: list[list[Picture]] = []
    for choice in choices:
        record, annotation = where[choice.image_id]
        picture, size = as_array(read_image(record.path)), (record.height, record.width)
        window = window_around(annotation.box, size)
        place = [a for a in material.index.annotations[record.id] if not a.crowd].index(annotation)
        row = []
        for model in models:
            pair = pairs(material.index, record, model.shown[record.id])[place]
            row.append(draw_closeup(picture, pair.found, pair.truth, window, side=192))
        boundary = second.model.explain(picture).boundary
        assert boundary is not None
        row.append(draw_heat(crop_map(boundary, window, size), row[0].shape[:2]))
        rows.append(row)
    caption = (
        "The paper's Fig. 9, as close-ups: one object's mask (orange) by BlendMask and B2Inst, the "
        "true outline in blue, and B2Inst's boundary basis there. Of the objects that both find, "
        "three of largest gain in √(mask IoU · boundary Dice), two of largest loss, "
        "three at random; the number is that gain."
    )
    labels = [
        f"object {c.image_id}\n{c.reason}\n{'' if c.gain is None else f'{c.gain:+.2f}'}"
        for c in choices
    ]
    columns = [first.name, "B2Inst", "boundary basis"]
    figure = picture_grid(rows, columns, labels, across=2, width=_PAGE / 6 - 0.2, note=caption)
    return Drawing(caption, figure, models, choices)


def pair_sample(material: Material, *, family: str, paper: str) -> Drawing:
    """A family's baseline and B2Inst on it, on images at random.

    Args:
        paper: which figure of the paper it is, for the caption.
    """
    families = (family, f"b2inst-{family}")
    models = _models(material, *families)
    choices = _pick(material, families, drawn=8)
    rows = [_instances(material, choice, models, side=192) for choice in choices]
    caption = (
        f"{paper}: {models[0].name} and {models[1].name} beside the ground truth, on eight images "
        f"at random, whatever their gain. {_GAIN}"
    )
    columns = ["ground truth", *(model.name for model in models)]
    return _grid(caption, rows, columns, choices, models, across=2)


def base_grid(material: Material, *, family: str, across: int = 9) -> Drawing:
    """All bases of a family's baseline and of B2Inst on it."""
    models = _models(material, family, f"b2inst-{family}")
    choices = _pick(material, (family, f"b2inst-{family}"), best=1, drawn=1)
    rows: list[list[Picture]] = []
    labels: list[str] = []
    titles: list[str] = []
    for choice in choices:
        picture = as_array(read_image(material.records[choice.image_id].path))
        for model in models:
            tiles = basis_pictures(model.model.explain(picture), side=192)
            lines = [list(tiles.values())[i : i + across] for i in range(0, len(tiles), across)]
            rows += lines
            labels += [f"{model.name}\n{_label(choice)}", *[""] * (len(lines) - 1)]
            titles = max(titles, list(tiles), key=len)
    caption = (
        f"All bases of {models[0].name} and {models[1].name}, on the image of largest gain and one "
        "at random: the image, the bases from left to right (each between its own extremes: red "
        "above zero, blue below), last the boundary basis as a probability. The number is the gain "
        "in the image's own boundary AP (percent points)."
    )
    # Where the bases fill several lines, a title over a column would hold for the first alone.
    columns = titles if len(titles) <= across else [""] * across
    width = (_PAGE - 0.4) / len(columns)
    figure = picture_grid(rows, columns, labels, width=width, note=caption)
    return Drawing(caption, figure, models, choices)


def error_split(material: Material, *, family: str) -> Drawing:
    """Where the masks of a family's baseline and of B2Inst on it are wrong."""
    families = (family, f"b2inst-{family}")
    models = _models(material, *families)
    choices = _pick(material, families, best=1, worst=1, drawn=2)
    rows = []
    for choice in choices:
        record = material.records[choice.image_id]
        picture = as_array(read_image(record.path))
        row = instance_row(material.index, record, [], side=192)
        for model in models:
            found = model.shown[record.id]
            row.append(draw_errors(picture, material.index, record, found, side=192))
        rows.append(row)
    first, second = models
    counts = {
        seed: count_errors(
            material.index,
            material.index.images,
            {model.name: model.shown_by(seed) for model in models},
        )
        for seed in first.runs
        if seed in second.runs
    }
    caption = (
        f"Where the masks of {models[0].name} and {models[1].name} are wrong: in a band around the "
        "true boundary (2 % of the image's diagonal on either side, as boundary AP takes it), or "
        "away from it. Above, the image of largest gain, that of largest loss and two at random, "
        "with the gain in the image's own boundary AP (percent points); grey: objects not "
        "found. Below, "
        f"all {len(material.index)} images of split {models[0].split}: wrong pixels as a share of "
        "the objects' area, over the objects that both find; a dot is a seed, a bar their mean."
    )
    figure = error_figure(
        rows,
        ["ground truth", *(m.name for m in models)],
        [_label(c) for c in choices],
        list(counts.values()),
        note=caption,
    )
    numbers = {f"seed {seed}": {k: asdict(v) for k, v in of.items()} for seed, of in counts.items()}
    return Drawing(caption, figure, models, choices, numbers)


@dataclass(frozen=True)
class Figure:
    """How a figure is drawn, and what it cannot be drawn without."""

    draw: Callable[[Material], Drawing]
    families: tuple[str, ...]  #: whose trained models it needs


def _of(draw: Callable[..., Drawing], family: str, **options: str) -> Figure:
    return Figure(partial(draw, family=family, **options), (family, f"b2inst-{family}"))


_BLENDMASK = ("blendmask", "b2inst-blendmask")

#: By the names of their files: in the paper's order, then the bases, and where masks are wrong.
FIGURES: dict[str, Figure] = {
    "fig1": Figure(fig1, _BLENDMASK),
    "fig4": Figure(fig4, _BLENDMASK),
    "fig5": Figure(fig5, (*_BLENDMASK, "yolact", "b2inst-yolact")),
    "fig6": _of(pair_sample, "blendmask", paper="The paper's Fig. 6"),
    "fig7": _of(pair_sample, "yolact", paper="The paper's Fig. 7"),
    "fig8": Figure(fig8, ("b2inst-blendmask",)),
    "fig9": Figure(fig9, _BLENDMASK),
    "pairs_condinst": _of(pair_sample, "condinst", paper="Not in the paper, after its Fig. 6"),
    **{f"bases_{family}": _of(base_grid, family) for family in _FAMILIES},
    **{f"errors_{family}": _of(error_split, family) for family in _FAMILIES},
}


def _models(material: Material, *families: str) -> list[TrainedModel]:
    return [material.model(family) for family in families]


def _pick(
    material: Material,
    families: tuple[str, str],
    *,
    best: int = 0,
    worst: int = 0,
    drawn: int = 0,
) -> list[Choice]:
    gains = material.gains(*families)
    return pick(gains, material.candidates, best=best, worst=worst, drawn=drawn)


def _instances(
    material: Material,
    choice: Choice,
    models: Sequence[TrainedModel],
    *,
    boundary: bool = False,
    side: int = 288,
) -> list[Picture]:
    """Ground truth, each model's instances, and the last one's boundary basis where asked for."""
    record = material.records[choice.image_id]
    found = [model.shown[record.id] for model in models]
    row = instance_row(material.index, record, found, side=side)
    if boundary:
        predicted = models[-1].model.explain(as_array(read_image(record.path))).boundary
        size = row[0].shape[:2]
        blank = np.full_like(row[0], 255)
        row.append(blank if predicted is None else draw_heat(predicted, size))
    return row


def _grid(
    caption: str,
    rows: Sequence[Sequence[Picture]],
    columns: Sequence[str],
    choices: Sequence[Choice],
    models: Sequence[TrainedModel],
    *,
    across: int = 1,
) -> Drawing:
    width = (_PAGE / across - 0.4) / len(columns)
    labels = [_label(choice) for choice in choices]
    figure = picture_grid(rows, columns, labels, across=across, width=width, note=caption)
    return Drawing(caption, figure, models, choices)


def _label(choice: Choice) -> str:
    gain = "" if choice.gain is None else f"\n{choice.gain:+.1f}"
    return f"image {choice.image_id}\n{choice.reason}{gain}"
