"""Models on the same images, in the layout of the paper's Figs. 1 and 4–9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask
from torch import Tensor

from b2inst.data import CocoIndex, ImageRecord
from b2inst.data.images import as_array, read_image
from b2inst.evaluation import Prediction
from b2inst.models import BasisSegmenter, Explanation
from b2inst.modules.boundary_basis import BoundarySupervision
from b2inst.modules.refinement import BoundaryDiffusion
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import decode_rle, encode_rle
from b2inst.structures import Instances
from b2inst.viz.choose import Choice, ImagePredictions, detections
from b2inst.viz.draw import (
    Colour,
    Picture,
    contrasting_colours,
    draw_heat,
    draw_instances,
    draw_masks,
    enlarge,
)
from b2inst.viz.figure import picture_grid

_MASK: Colour = (230, 159, 0)
_TRUTH: Colour = (0, 114, 178)

_Window = tuple[slice, slice]  # rows and columns


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

    An object has one colour throughout. Models without a boundary have no column of it.

    Args:
        index: Images with their ground truth.
        choices: Choices of images.
        predictions: By name of the model, as :func:`b2inst.viz.choose.visible` returns them.
        explainers: Models by name, whose boundary bases are shown.
        ground_truth: Whether to show the ground truth.
        side: Small images are enlarged to at least this shorter side, in pixels.
        layout: Further arguments of ``picture_grid``.
    """
    records = {record.id: record for record in index.images}
    rows, with_boundary = [], []
    for choice in choices:
        record = records[choice.id]
        picture, truth = as_array(read_image(record.path)), truth_instances(index, record)
        colours = contrasting_colours(picture, truth.masks.numpy())
        shown = [(truth, colours)] if ground_truth else []
        for of in predictions.values():
            found = _predicted_instances(of[record.id], index, record)
            shown.append((found, _matched_colours(picture, found, truth, colours)))
        draw = partial(draw_instances, picture, captions=False, score_threshold=0, side=side)
        row = [draw(found, colours=own) for found, own in shown]
        maps = {name: of.explain(picture).boundary for name, of in (explainers or {}).items()}
        with_boundary = [name for name, values in maps.items() if values is not None]
        row += [draw_heat(v, row[0].shape[:2]) for v in maps.values() if v is not None]
        rows.append(row)
    titles = [f"boundary of\n{name}" for name in with_boundary]
    if len(titles) == 1:
        titles = ["boundary basis"]
    columns = ["ground truth"] * ground_truth + [*predictions, *titles]
    labels = [f"image {choice.id}\n{choice.label}" for choice in choices]
    return picture_grid(rows, columns, labels, **layout)


def boundary_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    models: Mapping[str, Explainer],
    **layout: Any,
) -> Figure:
    """Draw the chosen images: ground truth | target | the boundary of each model that has one.

    Args:
        index: Images with their ground truth.
        choices: Choices of images.
        models: Models by name. The target is that of the first one with a boundary.
        layout: Further arguments of ``picture_grid``.
    """
    records = {record.id: record for record in index.images}
    rows, columns = [], ["ground truth"]
    for choice in choices:
        picture = as_array(read_image(records[choice.id].path))
        truth = truth_instances(index, records[choice.id])
        row = [draw_instances(picture, truth, captions=False)]
        found = {name: model.explain(picture) for name, model in models.items()}
        maps = {name: e.boundary for name, e in found.items() if e.boundary is not None}
        if maps:
            first = next(iter(maps))
            target = boundary_target(truth.masks, found[first], two_sided=two_sided(models[first]))
            maps = {"target": target} | maps
        columns = ["ground truth", *maps]
        rows.append(row + [draw_heat(values, row[0].shape[:2]) for values in maps.values()])
    labels = [f"image {choice.id}\n{choice.label}" for choice in choices]
    return picture_grid(rows, columns, labels, **layout)


def closeup_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    predictions: Mapping[str, ImagePredictions],
    explainer: Explainer,
    *,
    side: int = 192,
    **layout: Any,
) -> Figure:
    """Draw the chosen objects: the mask of each model | the boundary basis (paper Fig. 9).

    Args:
        index: Images with their ground truth.
        choices: Choices of objects.
        predictions: By name of the model, as :func:`b2inst.viz.choose.visible` returns them.
        explainer: Model whose boundary is shown.
        side: Small objects are enlarged to at least this size, in pixels.
        layout: Further arguments of ``picture_grid``.
    """
    images = {a.id: record for record in index.images for a in index.annotations[record.id]}
    rows = []
    for choice in choices:
        record = images[choice.id]
        picture, row = as_array(read_image(record.path)), []
        for found in predictions.values():
            matches = detections(index, record, found[record.id])
            annotation, truth, mask = next(m for m in matches if m[0].id == choice.id)
            window = _square_window(annotation.box, (record.height, record.width))
            row.append(_draw_closeup(picture, mask, truth, window, side=side))
        boundary = explainer.explain(picture).boundary
        assert boundary is not None
        whole = F.interpolate(
            boundary[None, None], size=picture.shape[:2], mode="bilinear", align_corners=False
        )
        rows.append([*row, draw_heat(whole[0, 0][window], row[0].shape[:2])])
    labels = [f"object {choice.id}\n{choice.label}" for choice in choices]
    return picture_grid(rows, [*predictions, "boundary basis"], labels, **layout)


def _square_window(
    box: tuple[float, float, float, float], size: tuple[int, int], *, margin: float = 0.15
) -> _Window:
    """A square around a box x1 y1 x2 y2, inside the image, with a margin on each side."""
    x1, y1, x2, y2 = box
    side = min(round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)), *size)
    top = min(max(round((y1 + y2 - side) / 2), 0), size[0] - side)
    left = min(max(round((x1 + x2 - side) / 2), 0), size[1] - side)
    return slice(top, top + side), slice(left, left + side)


def _draw_closeup(
    picture: Picture,
    mask: dict[str, Any] | None,
    truth: dict[str, Any],
    window: _Window,
    *,
    side: int = 192,
) -> Picture:
    """A mask in orange and the outline of the true one in blue, on a grey window of an image."""
    crop = picture[window]
    grey = crop.mean(-1, keepdims=True).round().astype("uint8").repeat(3, -1)
    codes = [mask] if mask else []
    found, true = (decode_rle(c, picture.shape[:2])[:, *window] for c in (codes, [truth]))
    drawn = draw_masks(grey, found, [_MASK] * len(found), side=side)
    outline = torch.from_numpy(enlarge(true[0].numpy(), drawn.shape[0] // crop.shape[0]))
    return draw_masks(drawn, outline[None], [_TRUTH], opacity=0)


def boundary_target(masks: Tensor, explanation: Explanation, *, two_sided: bool = False) -> Tensor:
    """Compute the holistic boundary of N×H×W masks on the grid of an explanation, h×w."""
    sampled = F.interpolate(masks[:, None].float(), explanation.content, mode="nearest-exact")
    boundary = laplacian_boundary(sampled[:, 0])
    if two_sided:
        boundary |= laplacian_boundary(~sampled[:, 0].bool())
    return boundary.any(0).float()


def two_sided(model: Explainer) -> bool:
    """Tell whether a model's boundary target is marked on both sides."""
    head = model.basis_head if isinstance(model, BasisSegmenter) else None
    criterion = head.criterion if isinstance(head, BoundarySupervision) else None
    return getattr(criterion, "two_sided", False)


def gated(model: BasisSegmenter) -> bool:
    """Tell whether the predicted boundary slows the refinement of the masks."""
    parts = model.assembler.modules()
    return any(isinstance(p, BoundaryDiffusion) and p.raw_sharpness is not None for p in parts)


def _predicted_instances(
    predictions: Sequence[Prediction], index: CocoIndex, record: ImageRecord
) -> Instances:
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
    ones = torch.ones(len(objects))
    return Instances(
        boxes=torch.tensor([a.box for a in objects], dtype=torch.float32).reshape(-1, 4),
        scores=ones,
        class_scores=ones,
        labels=torch.tensor([a.label for a in objects], dtype=torch.int64),
        masks=decode_rle([a.rle for a in objects], (record.height, record.width)),
        class_names=index.class_names,
    )


def _matched_colours(
    picture: Picture, instances: Instances, truth: Instances, colours: Sequence[Colour]
) -> list[Colour]:
    """The colours of the objects that the instances overlap most, or else contrasting ones."""
    fixed: list[Colour | None] = [None] * len(instances)
    if len(truth) and len(instances):
        codes = encode_rle(truth.masks)
        overlap = coco_mask.iou(encode_rle(instances.masks), codes, [0] * len(truth))
        fixed = [colours[row.argmax()] if row.max() > 0 else None for row in overlap]
    return contrasting_colours(picture, instances.masks.numpy(), fixed=fixed)
