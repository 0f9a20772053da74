"""What one training step of our PointRend computes from the fixtures, under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from b2inst.models import TwoStageSegmenter
from b2inst.modules import point_rend
from reference.blendmask_inputs import Sample
from reference.blendmask_outputs import Arrays, arrays, record, watch
from reference.fixtures import Case
from reference.pointrend_outputs import Index, proposal_logits, proposal_rows

#: The published names of our losses.
LOSSES = {
    "loss_class": "loss_cls",
    "loss_box": "loss_box_reg",
    "loss_mask": "loss_mask",
    "loss_point": "loss_mask_point",
    "loss_objectness": "loss_rpn_cls",
    "loss_rpn_box_reg": "loss_rpn_loc",
}


@dataclass
class PointRendTraining:
    """What one step without an update gives."""

    images: list[Arrays]  #: of each image, what was assigned
    rois: Arrays  #: of all images' sampled boxes and of the objects among them, as published
    losses: dict[str, float]
    gradients: dict[str, float]  #: L2 norm, by published name
    without_gradient: list[str]
    input_shape: list[int]


class _Given:
    """A sampler that takes what the fixtures took.

    Args:
        chosen: of each image the rows of positives and of negatives.
    """

    def __init__(self, chosen: list[tuple[Index, Index]]) -> None:
        self.chosen = chosen

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], ...]:
        self.labels = list(labels)  # the list is changed later
        masks = [
            [torch.zeros_like(of, dtype=torch.bool).index_fill(0, _rows(r), True) for r in rows]
            for of, rows in zip(labels, self.chosen, strict=True)
        ]
        return tuple(list(kind) for kind in zip(*masks, strict=True))


def _rows(numbers: Any) -> Tensor:
    return torch.from_numpy(np.asarray(numbers, np.int64))


def train(
    case: Case, model: TwoStageSegmenter, samples: list[Sample], names: Mapping[str, str]
) -> PointRendTraining:
    """One forward and backward pass on the batch of all images, with the published samples.

    Args:
        names: published name of a tensor to ours.
    """
    fed, images = case.arrays, range(len(samples))
    rpn, heads = model.detector.rpn, model.detector.roi_heads
    classes = heads.box_predictor.cls_score.out_features - 1
    sampled = [_rows(fed[f"train_roi_sampled_{i}"]) for i in images]
    objects = [
        rows[_rows(fed[f"train_roi_label_{i}"])[rows] < classes]
        for i, rows in zip(images, sampled, strict=True)
    ]
    order, object_order = _published_order(sampled), _published_order(objects)
    points = [
        torch.from_numpy(fed[f"train_points_{kind}"])[object_order.argsort()]
        for kind in ("oversampled", "random")
    ]
    of_anchors = _Given(
        [(fed[f"train_rpn_pos_sampled_{i}"], fed[f"train_rpn_neg_sampled_{i}"]) for i in images]
    )
    of_boxes = _Given([(rows.numpy(), rows[:0].numpy()) for rows in sampled])
    proposals: list[Arrays] = []

    def reorder(_: Any, __: Any, made: tuple[list[Tensor], Any]) -> Any:
        """Rows as published, which the published samples are numbers of."""
        for i, boxes in enumerate(made[0]):
            found = arrays(boxes=boxes, logits=proposal_logits(filtered[0][0], i, boxes))
            rows = proposal_rows(case, f"train_proposal_{{}}_{i}", found)
            proposals.append({name: value[rows] for name, value in found.items()})
        return [torch.from_numpy(own["boxes"]) for own in proposals], made[1]

    inputs = [torch.from_numpy(s.resized).permute(2, 0, 1).contiguous() for s in samples]
    targets = [sample.targets for sample in samples]
    model.train()
    with (
        watch({"batch": model.preprocessor, "predicted": heads.box_predictor}) as seen,
        record(rpn, "filter_proposals") as filtered,
        record(rpn, "assign_targets_to_anchors") as anchors,
        record(heads, "select_training_samples") as selected,
        record(model.mask_head, "loss") as mask_calls,
        record(model.mask_head, "point_logits") as point_calls,
        record(point_rend, "class_mask_loss") as mask_losses,
        patch.object(rpn, "fg_bg_sampler", of_anchors),
        patch.object(heads, "fg_bg_sampler", of_boxes),
        patch.object(point_rend, "uniform_points", lambda *_: points.pop(0)),
    ):
        hook = rpn.register_forward_hook(reorder)
        losses = model(inputs, targets)
        hook.remove()
    torch.stack(list(losses.values())).sum().backward()
    found = [
        _assigned(i, anchors[0][1], of_boxes.labels[i], proposals[i], samples[i], classes)
        for i in images
    ]
    rois = _roi_arrays(selected[0][1], seen["predicted"], order)
    rois |= _mask_arrays(case, mask_calls[0][0], point_calls[0], mask_losses, object_order)
    own = dict(model.named_parameters())
    parameters = {theirs: own[ours] for theirs, ours in names.items() if ours in own}
    return PointRendTraining(
        images=found,
        rois=rois,
        losses={LOSSES.get(name, name): value.item() for name, value in losses.items()},
        gradients={n: float(p.grad.norm()) for n, p in parameters.items() if p.grad is not None},
        without_gradient=[n for n, p in parameters.items() if p.grad is None],
        input_shape=list(seen["batch"].images.shape),
    )


def _published_order(chosen: list[Tensor]) -> Tensor:
    """Our row of each published one: ours are sorted within an image."""
    rows, start = [], 0
    for own in chosen:
        rows.append(own.argsort().argsort() + start)
        start += len(own)
    return torch.cat(rows)


def _assigned(
    i: int,
    anchors: tuple[list[Tensor], list[Tensor]],
    labels: Tensor,
    proposals: Arrays,
    sample: Sample,
    classes: int,
) -> Arrays:
    """What anchors and boxes of an image are trained to."""
    truth = sample.targets.boxes
    positive = (anchors[0][i] == 1).nonzero()[:, 0]
    matched = (anchors[1][i][positive, None] == truth).all(2).int().argmax(1)
    boxes = torch.cat([torch.from_numpy(proposals["boxes"]), truth])
    return arrays(
        rpn_label=anchors[0][i].long(),
        rpn_pos_all=positive,
        rpn_pos_all_gt=matched,
        roi_label=torch.where(labels > 0, labels - 1, classes),
        roi_gt=box_iou(truth, boxes).argmax(0),
    ) | {f"proposal_{name}": value for name, value in proposals.items()}


def _roi_arrays(selected: Any, predicted: tuple[Tensor, Tensor], order: Tensor) -> Arrays:
    boxes, _, labels, _ = selected
    label = torch.cat(labels)[order]
    foreground = (label > 0).nonzero()[:, 0]
    scores, deltas = (value[order].detach() for value in predicted)
    own = deltas.unflatten(1, (-1, 4))[foreground, label[foreground]]
    return arrays(
        roi_boxes=torch.cat(boxes)[order],
        roi_classes=torch.where(label > 0, label - 1, scores.shape[1] - 1),
        cls_score=scores.roll(-1, 1),
        fg_rows=foreground,
        fg_deltas_gtclass=own,
    )


def _mask_arrays(
    case: Case, mask_call: Any, point_call: Any, losses: list[Any], order: Tensor
) -> Arrays:
    """Of the objects' boxes; their points in the published order."""
    _, samples, _ = mask_call
    (_, _, coarse, points), logits = point_call
    (_, labels, point_truths), _ = losses[1]
    (_, _, crops), _ = losses[0]
    drawn = torch.from_numpy(case.arrays["train_points_oversampled"])
    points, logits, truths = points[order], logits[order].detach(), point_truths[order]
    labels = labels[order]
    count = round(0.75 * points.shape[1])
    selected = (points[:, :count, None] == drawn[:, None]).all(3).int().argmax(2)
    stored = _rows(case.like("train_points_selected", selected.numpy()))
    place = (stored[:, :, None] == selected[:, None]).int().argmax(2)  # of equal uncertainty
    rest = torch.arange(count, points.shape[1]).expand(len(points), -1)
    place = torch.cat([place, rest], 1)
    every = logits.take_along_dim(place[:, None], 2)
    return arrays(
        mask_boxes=torch.cat([s.boxes for s in samples])[order],
        mask_classes=labels,
        coarse_logits=coarse[order],
        coarse_targets=crops[order],
        points_selected=selected,
        points=points.take_along_dim(place[..., None], 1),
        point_labels=truths.take_along_dim(place, 1),
        point_logits_gtclass=every[torch.arange(len(labels)), labels],
        point_logits_first1_allcls=every[0],
    )
