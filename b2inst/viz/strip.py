"""Many models on the same images, in the layout of the paper's Fig. 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from b2inst.data import CocoIndex
from b2inst.data.images import as_array, read_image
from b2inst.evaluation import Prediction
from b2inst.viz.choose import Choice, by_image, shown
from b2inst.viz.draw import draw_heat
from b2inst.viz.qualitative import Explainer, instance_row, picture_grid

_SIDE = 192  # pixels that the shorter side of a small image is enlarged to


def strip_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    found: Mapping[str, Sequence[Prediction]],
    models: Mapping[str, Explainer],
    *,
    score_threshold: float = 0.4,
) -> Figure:
    """Draw the chosen images: ground truth | each model's instances | the boundary bases.

    Args:
        found: predictions, by what the models are called in the figure.
        models: those whose boundary basis is shown, called the same.
        score_threshold: least class score of an instance that is drawn (see ``shown``).
    """
    grouped = {name: by_image(predictions) for name, predictions in found.items()}
    records = {record.id: record for record in index.images}
    rows, bases = [], []
    for choice in choices:
        record = records[choice.image_id]
        drawn = [shown(of[record.id], score_threshold) for of in grouped.values()]
        row = instance_row(index, record, drawn, side=_SIDE)
        picture = as_array(read_image(record.path))
        maps = {name: model.explain(picture).boundary for name, model in models.items()}
        bases = [name for name, values in maps.items() if values is not None]
        row += [draw_heat(v, row[0].shape[:2]) for v in maps.values() if v is not None]
        rows.append(row)
    titles = ["ground truth", *found, *(f"boundary of\n{name}" for name in bases)]
    gains = ["–" if c.gain is None else f"{c.gain:+.2f}" for c in choices]
    labels = [
        f"image {c.image_id}\n{c.reason}\ngain {gain}"
        for c, gain in zip(choices, gains, strict=True)
    ]
    return picture_grid(rows, titles, labels, width=1.35)
