"""Two models on the same images, in the layout of the paper's Fig. 4.

A row an image: ground truth, the baseline's instances, B2Inst's, and the boundary basis that
B2Inst predicted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from matplotlib.figure import Figure, FigureBase
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, ImageRecord
from b2inst.data.images import as_array, read_image
from b2inst.evaluation import Prediction
from b2inst.models import Explanation
from b2inst.ops.masks import decode_rle, encode_rle
from b2inst.structures import Instances
from b2inst.viz.choose import Choice, by_image, shown
from b2inst.viz.draw import Colour, Picture, contrasting_colours, draw_heat, draw_instances
from b2inst.viz.figure import PRINT_DPI, new_figure


class Explainer(Protocol):
    """What the last column needs of a model."""

    def explain(self, image: np.ndarray) -> Explanation:
        """Predict one image (H×W×3 uint8 RGB) and keep its boundary map."""


def qualitative_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    *,
    names: tuple[str, str],
    model: Explainer | None = None,
    score_threshold: float = 0.4,
) -> Figure:
    """Draw the chosen images: ground truth | first | second | boundary basis.

    Args:
        first, second: predictions of the two models.
        names: what the models are called in the figure.
        model: the second model, for its boundary basis; without one that column is left out.
        score_threshold: least class score of an instance that is drawn (see ``shown``).
    """
    grouped = [by_image(predictions) for predictions in (first, second)]
    records = {record.id: record for record in index.images}
    rows = []
    for choice in choices:
        record = records[choice.image_id]
        found = [shown(of[record.id], score_threshold) for of in grouped]
        row = instance_row(index, record, found)
        picture = as_array(read_image(record.path))
        if model is not None and (boundary := model.explain(picture).boundary) is not None:
            row.append(draw_heat(boundary, row[0].shape[:2]))
        rows.append(row)
    columns = ["ground truth", *names, "boundary basis"]
    gains = ["–" if c.gain is None else f"{c.gain:+.2f}" for c in choices]
    labels = [
        f"image {c.image_id}\n{c.reason}\ngain {gain}"
        for c, gain in zip(choices, gains, strict=True)
    ]
    return picture_grid(rows, columns[: max(map(len, rows), default=0)], labels)


def instance_row(
    index: CocoIndex,
    record: ImageRecord,
    models: Sequence[Sequence[Prediction]],
    *,
    side: int = 384,
) -> list[Picture]:
    """Ground truth, then what each model found; an object has one colour throughout.

    Args:
        models: for each what is to be drawn of its predictions (see ``shown``).
        side: small images are enlarged by a whole factor to at least this shorter side.
    """
    picture = as_array(read_image(record.path))
    truth = truth_instances(index, record)
    colours = contrasting_colours(picture, truth.masks.numpy())
    row = [draw_instances(picture, truth, colours=colours, captions=False, side=side)]
    for predictions in models:
        found = as_instances(predictions, index, record)
        own = matched_colours(picture, found, truth, colours)
        row.append(
            draw_instances(
                picture, found, colours=own, captions=False, score_threshold=0, side=side
            )
        )
    return row


def picture_grid(
    rows: Sequence[Sequence[Picture]],
    columns: Sequence[str],
    labels: Sequence[str],
    *,
    across: int = 1,
    width: float = 2.7,
    note: str = "",
) -> Figure:
    """Pictures in rows and columns, with a title over each column and a label before each row.

    Args:
        rows: one may have fewer pictures than there are columns.
        across: so many rows stand side by side.
        width: of a picture, in inches.
        note: what is written below the whole.
    """
    total = across * (width * len(columns) + 0.4)
    below = textwrap.wrap(note, round(total * 19)) if note else []
    height = sum(_heights(rows, across, width)) + 0.25 + 0.05 * -(-len(rows) // across)
    figure = new_figure(total, height + 0.14 * len(below))
    fill_grid(figure, rows, columns, labels, across=across, width=width)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7)
    return figure


def fill_grid(
    figure: FigureBase,
    rows: Sequence[Sequence[Picture]],
    columns: Sequence[str],
    labels: Sequence[str],
    *,
    across: int = 1,
    width: float = 2.7,
) -> None:
    """As ``picture_grid``, into a figure or a part of one."""
    heights, count = _heights(rows, across, width), len(columns)
    axes = figure.subplots(len(heights), across * count, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        start = i % across * count
        own = axes[i // across, start : start + count]
        for axis, picture in zip(own, row, strict=False):
            whole = picture.shape[1] <= width * PRINT_DPI
            axis.imshow(picture, interpolation="none" if whole else "antialiased")
        for axis in own[len(row) :]:  # else its title would stand elsewhere
            axis.set_box_aspect(row[0].shape[0] / row[0].shape[1])
        own[0].set_ylabel(label, fontsize=7)
    for axis, title in zip(axes[0], list(columns) * across, strict=True):
        axis.set_title(title, fontsize=9 if width > 1.5 else 7)


def _heights(rows: Sequence[Sequence[Picture]], across: int, width: float) -> list[float]:
    """Of each line, in inches; without rows, of an empty one."""
    own = [width * row[0].shape[0] / row[0].shape[1] for row in rows]
    return [max(own[i : i + across]) for i in range(0, len(own), across)] or [width]


def as_instances(
    predictions: Sequence[Prediction], index: CocoIndex, record: ImageRecord
) -> Instances:
    """What a prediction file holds of an image, as ``predict`` returned it."""
    labels = {category: label for label, category in enumerate(index.category_ids)}
    boxes = torch.tensor([p["bbox"] for p in predictions], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        boxes=boxes,
        scores=torch.tensor([p["score"] for p in predictions]),
        class_scores=torch.tensor([p["class_score"] for p in predictions]),
        labels=torch.tensor([labels[p["category_id"]] for p in predictions], dtype=torch.int64),
        masks=decode_rle([p["segmentation"] for p in predictions], (record.height, record.width)),
        class_names=index.class_names,
    )


def truth_instances(index: CocoIndex, record: ImageRecord) -> Instances:
    """The objects of an image that are no crowds, as instances of score 1."""
    objects = [a for a in index.annotations[record.id] if not a.crowd]
    masks = [a.mask() for a in objects]
    empty = np.zeros((0, record.height, record.width), dtype=np.uint8)
    ones = torch.ones(len(objects))
    return Instances(
        boxes=torch.tensor([a.box for a in objects], dtype=torch.float32).reshape(-1, 4),
        scores=ones,
        class_scores=ones,
        labels=torch.tensor([a.label for a in objects], dtype=torch.int64),
        masks=torch.from_numpy(np.stack(masks) if masks else empty).bool(),
        class_names=index.class_names,
    )


def matched_colours(
    picture: Picture, instances: Instances, truth: Instances, colours: Sequence[Colour]
) -> list[Colour]:
    """The colour of the object that each instance overlaps most; where none, by contrast."""
    fixed: list[Colour | None] = [None] * len(instances)
    if len(truth) and len(instances):
        codes = encode_rle(truth.masks)
        overlap = coco_mask.iou(encode_rle(instances.masks), codes, [0] * len(truth))
        fixed = [colours[row.argmax()] if row.max() > 0 else None for row in overlap]
    return contrasting_colours(picture, instances.masks.numpy(), fixed=fixed)
