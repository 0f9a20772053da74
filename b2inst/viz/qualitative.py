"""Models on the same images, in the layout of the paper's Figs. 1 and 4–8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, ImageRecord
from b2inst.data.images import as_array, read_image
from b2inst.evaluation import Prediction
from b2inst.models import Explanation
from b2inst.ops.masks import decode_rle, encode_rle
from b2inst.structures import Instances
from b2inst.viz.choose import Choice, ImagePredictions
from b2inst.viz.draw import Colour, Picture, contrasting_colours, draw_heat, draw_instances
from b2inst.viz.grid import picture_grid


class Explainer(Protocol):
    """A model that can explain its predictions, such as ``BasisSegmenter``."""

    def explain(self, image: np.ndarray) -> Explanation:
        """Predict an H×W×3 uint8 RGB image and return its instances and bases."""


def comparison_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    predictions: Mapping[str, ImagePredictions],
    *,
    explainers: Mapping[str, Explainer] | None = None,
    ground_truth: bool = True,
    side: int = 384,
    **layout: Any,
) -> Figure:
    """Draw the chosen images: ground truth | each model's instances | boundary bases.

    An object has one colour throughout.

    Args:
        index: Images with their ground truth.
        choices: Choices of images.
        predictions: By name of the model, as :func:`b2inst.viz.choose.visible` returns them.
        explainers: Models by name, whose boundary bases are shown; those without one are left out.
        ground_truth: Whether to show the ground truth.
        side: Small images are enlarged to at least this shorter side, in pixels.
        layout: Further arguments of ``picture_grid``.
    """
    records = {record.id: record for record in index.images}
    rows, with_boundary = [], []
    for choice in choices:
        record = records[choice.id]
        found = [of[record.id] for of in predictions.values()]
        row = _instances(index, record, found, side)[0 if ground_truth else 1 :]
        image = as_array(read_image(record.path))
        maps = {name: of.explain(image).boundary for name, of in (explainers or {}).items()}
        with_boundary = [name for name, values in maps.items() if values is not None]
        row += [draw_heat(v, row[0].shape[:2]) for v in maps.values() if v is not None]
        rows.append(row)
    titles = [f"boundary of\n{name}" for name in with_boundary]
    if len(titles) == 1:
        titles = ["boundary basis"]
    columns = ["ground truth"] * ground_truth + [*predictions, *titles]
    labels = [f"image {choice.id}\n{choice.label}" for choice in choices]
    return picture_grid(rows, columns, labels, **layout)


def _instances(
    index: CocoIndex, record: ImageRecord, models: Sequence[Sequence[Prediction]], side: int
) -> list[Picture]:
    """Ground truth, then the predictions of each model."""
    picture = as_array(read_image(record.path))
    truth = truth_instances(index, record)
    colours = contrasting_colours(picture, truth.masks.numpy())
    row = [draw_instances(picture, truth, colours=colours, captions=False, side=side)]
    for predictions in models:
        found = predicted_instances(predictions, index, record)
        own = matched_colours(picture, found, truth, colours)
        row.append(
            draw_instances(
                picture, found, colours=own, captions=False, score_threshold=0, side=side
            )
        )
    return row


def predicted_instances(
    predictions: Sequence[Prediction], index: CocoIndex, record: ImageRecord
) -> Instances:
    """Convert the predictions of an image back to instances."""
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
    """Convert the objects of an image, without crowds, to instances of score 1."""
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
    """Give each instance the colour of the object that it overlaps most, or else a contrasting one.

    Args:
        picture: H×W×3 uint8 RGB.
        instances: N instances.
        truth: M objects.
        colours: M colours.
    """
    fixed: list[Colour | None] = [None] * len(instances)
    if len(truth) and len(instances):
        codes = encode_rle(truth.masks)
        overlap = coco_mask.iou(encode_rle(instances.masks), codes, [0] * len(truth))
        fixed = [colours[row.argmax()] if row.max() > 0 else None for row in overlap]
    return contrasting_colours(picture, instances.masks.numpy(), fixed=fixed)
