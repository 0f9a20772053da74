"""Models on the same images, in the layout of the paper's Figs. 1 and 4–9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask
from torch import Tensor

from b2inst.data import CocoIndex, ImageRecord
from b2inst.data.images import as_array, read_image
from b2inst.evaluation import Prediction
from b2inst.models import BasisSegmenter
from b2inst.modules.boundary_basis import BoundarySupervision
from b2inst.modules.refinement import BoundaryDiffusion
from b2inst.ops.boundary import boundary_target
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
_MARGIN = 0.15  # of a close-up on each side, as a fraction of the object's box


def comparison_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    predictions: Mapping[str, ImagePredictions],
    explainers: Mapping[str, BasisSegmenter],
    *,
    ground_truth: bool = True,
    target: bool = False,
    side: int = 384,
    **layout: Any,
) -> Figure:
    """Draw the chosen images: ground truth | each model's instances | target | boundaries.

    An object has one colour throughout. Models without a boundary have no column of it.

    Args:
        index: Images with their ground truth.
        choices: Choices of images, at least one.
        predictions: By name of the model, as :func:`b2inst.viz.choose.visible` returns them.
        explainers: Models by name, whose boundaries are shown.
        ground_truth: Whether to show the ground truth.
        target: Whether to show the boundary target, that of the first model with a boundary.
        side: Small images are enlarged to at least this shorter side, in pixels.
        layout: Further arguments of ``picture_grid``.
    """
    records = {record.id: record for record in index.images}
    rows = []
    for record in (records[choice.id] for choice in choices):
        picture, truth = as_array(read_image(record.path)), truth_instances(index, record)
        colours = contrasting_colours(picture, truth.masks)
        draw = partial(draw_instances, picture, captions=False, score_threshold=0, side=side)
        row = {"ground truth": draw(truth, colours=colours)} if ground_truth else {}
        for name, of in predictions.items():
            found = _predicted_instances(of[record.id], index, record)
            row[name] = draw(found, colours=_matched_colours(picture, found, truth, colours))
        size = next(iter(row.values())).shape[:2]
        for name, model in explainers.items():
            explanation = model.explain(picture)
            if explanation.boundary is not None:
                if target and "target" not in row:
                    truths = true_boundary(model, truth.masks, explanation.content)
                    row["target"] = draw_heat(truths, size)
                row[f"boundary of\n{name}"] = draw_heat(explanation.boundary, size)
        rows.append(row)
    pictures = [list(row.values()) for row in rows]
    return picture_grid(pictures, list(rows[0]), _labels("image", choices), **layout)


def closeup_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    predictions: Mapping[str, ImagePredictions],
    explainers: Mapping[str, BasisSegmenter],
    *,
    side: int = 192,
    **layout: Any,
) -> Figure:
    """Draw the chosen objects: the mask of each model | the boundary basis (paper Fig. 9).

    Args:
        index: Images with their ground truth.
        choices: Choices of objects.
        predictions: By name of the model, as :func:`b2inst.viz.choose.visible` returns them.
        explainers: The model whose boundary is shown, by name.
        side: Small objects are enlarged to at least this size, in pixels.
        layout: Further arguments of ``picture_grid``.
    """
    (explainer,) = explainers.values()
    objects = {a.id: (record, a) for record in index.images for a in index.annotations[record.id]}
    rows = []
    for record, annotation in (objects[choice.id] for choice in choices):
        picture, row = as_array(read_image(record.path)), []
        window = _square_window(annotation.box, (record.height, record.width))
        for found in predictions.values():
            masks = {a.id: mask for a, mask in detections(index, record, found[record.id])}
            mask = masks[annotation.id]
            row.append(_draw_closeup(picture, mask, annotation.rle, window, side=side))
        boundary = explainer.explain(picture).boundary
        assert boundary is not None
        whole = F.interpolate(boundary[None, None], size=picture.shape[:2], mode="bilinear")
        rows.append([*row, draw_heat(whole[0, 0][window], row[0].shape[:2])])
    return picture_grid(
        rows, [*predictions, "boundary basis"], _labels("object", choices), **layout
    )


def _labels(what: str, choices: Sequence[Choice]) -> list[str]:
    return [f"{what} {choice.id}\n{choice.label}" for choice in choices]


def _square_window(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[slice, slice]:
    """A square around a box x1 y1 x2 y2, inside the image, with a margin on each side."""
    x1, y1, x2, y2 = box
    side = min(round(max(x2 - x1, y2 - y1) * (1 + 2 * _MARGIN)), *size)
    top = min(max(round((y1 + y2 - side) / 2), 0), size[0] - side)
    left = min(max(round((x1 + x2 - side) / 2), 0), size[1] - side)
    return slice(top, top + side), slice(left, left + side)


def _draw_closeup(
    picture: Picture,
    mask: dict[str, Any] | None,
    truth: dict[str, Any],
    window: tuple[slice, slice],
    *,
    side: int,
) -> Picture:
    """A mask in orange and the outline of the true one in blue, on a grey window of an image."""
    grey = picture[window].mean(-1, keepdims=True).round().astype("uint8").repeat(3, -1)
    codes = [mask] if mask else []
    found, true = (decode_rle(c, picture.shape[:2])[:, *window] for c in (codes, [truth]))
    drawn = draw_masks(grey, found, [_MASK] * len(found), side=side)
    outline = torch.from_numpy(enlarge(true[0].numpy(), drawn.shape[0] // grey.shape[0]))
    return draw_masks(drawn, outline[None], [_TRUTH], opacity=0)


def true_boundary(model: BasisSegmenter, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw the boundary target of a model: that of N×H×W masks on the first h×w cells of bases."""
    head = model.basis_head
    two_sided = isinstance(head, BoundarySupervision) and head.criterion.two_sided
    sampled = F.interpolate(masks[:, None].float(), size, mode="nearest-exact")[:, 0]
    return boundary_target(sampled, stride=1, size=size, two_sided=two_sided)


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


def overlapped_most(masks: Tensor, truths: Tensor) -> Tensor:
    """Find the true mask that each of N masks overlaps most: its index, or -1, N int64."""
    found = torch.full((len(masks),), -1)
    if len(masks) and len(truths):
        codes = encode_rle(truths)
        overlap = coco_mask.iou(encode_rle(masks), codes, [0] * len(codes))
        best, index = torch.as_tensor(overlap).max(1)
        found = torch.where(best > 0, index, -1)
    return found


def _matched_colours(
    picture: Picture, instances: Instances, truth: Instances, colours: Sequence[Colour]
) -> list[Colour]:
    """The colours of the objects that the instances overlap most, or else contrasting ones."""
    objects = overlapped_most(instances.masks, truth.masks).tolist()
    fixed = [None if k < 0 else colours[k] for k in objects]
    return contrasting_colours(picture, instances.masks, fixed=fixed)
