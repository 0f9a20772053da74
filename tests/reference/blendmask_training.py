"""What one training step of our BlendMask computes from the fixtures, under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from b2inst.losses import mask_bce
from b2inst.models import BasisSegmenter
from b2inst.modules.basis_heads import BasisHead
from b2inst.modules.blender import Blender
from b2inst.modules.fcos_head import DenseOutputs, FCOSHead
from b2inst.modules.fcos_targets import FCOSTargets, assign
from b2inst.structures import Bases, Positives
from reference.blendmask_inputs import Sample, draw
from reference.blendmask_outputs import Arrays, points, watch

#: The published names of our losses.
LOSSES = {
    "loss_semantic": "loss_basis_sem",
    "loss_mask": "loss_mask",
    "loss_class": "loss_fcos_cls",
    "loss_box": "loss_fcos_loc",
    "loss_centerness": "loss_fcos_ctr",
}


@dataclass
class Training:
    """What one step without an update gives."""

    targets: Arrays  #: positions in the published order: level, image, row, column
    positives_per_object: list[int]
    normaliser: float  #: of box and mask loss: the sum of the centerness targets
    losses: dict[str, float]  #: masks are compared with bitmaps
    polygon_losses: dict[str, float]  #: masks are compared with polygons drawn in the RoI
    statistics: Arrays  #: running mean and variance of the basis head's first norm
    gradients: dict[str, float]  #: L2 norm, by published name
    without_gradient: list[str]  #: published names of parameters that get none


def train(model: BasisSegmenter, samples: list[Sample], names: Mapping[str, str]) -> Training:
    """One forward and backward pass on the batch of all images, from fresh running statistics.

    Args:
        names: published name of a tensor to ours.
    """
    head, bases = model.instance_head, model.basis_head
    assert isinstance(head, FCOSHead)
    assert isinstance(bases, BasisHead)
    step, seen = fcos_step(model, samples, names, LOSSES)
    with torch.no_grad():
        _, positives = head.loss(seen["outputs"], [sample.targets for sample in samples])
        polygon_loss = _polygon_loss(model, seen["bases"], positives, samples)
    norm = bases.refine[0][1]  # type: ignore[index]
    return replace(
        step,
        polygon_losses=step.losses | {"loss_mask": polygon_loss},
        statistics={"mean": norm.running_mean.numpy(), "var": norm.running_var.numpy()},
    )


def fcos_step(
    model: BasisSegmenter,
    samples: list[Sample],
    names: Mapping[str, str],
    losses: Mapping[str, str],
) -> tuple[Training, dict[str, Any]]:
    """The pass, without what is of one family, and what instance and basis head gave in it.

    Args:
        names, losses: published name of a tensor to ours, our name of a loss to the published.
    """
    head = model.instance_head
    assert isinstance(head, FCOSHead)
    images = [torch.from_numpy(s.resized).permute(2, 0, 1).contiguous() for s in samples]
    targets = [sample.targets for sample in samples]
    with watch({"outputs": head, "bases": model.basis_head}) as seen:  # type: ignore[dict-item]
        own_losses = model.train()(images, targets)
    torch.stack(list(own_losses.values())).sum().backward()
    with torch.no_grad():
        _, positives = head.loss(seen["outputs"], targets)
    own = dict(model.named_parameters())
    parameters = {theirs: own[ours] for theirs, ours in names.items() if ours in own}
    training = Training(
        targets=target_arrays(head, seen["outputs"], samples),
        positives_per_object=positives.target_index.bincount(
            minlength=sum(map(len, targets))
        ).tolist(),
        normaliser=float(positives.weight_sum),
        losses={losses.get(name, name): value.item() for name, value in own_losses.items()},
        polygon_losses={},
        statistics={},
        gradients={
            name: float(p.grad.norm()) for name, p in parameters.items() if p.grad is not None
        },
        without_gradient=[name for name, p in parameters.items() if p.grad is None],
    )
    return training, seen


def target_arrays(head: FCOSHead, outputs: DenseOutputs, samples: list[Sample]) -> Arrays:
    """What FCOS is trained to, at all positions and at the positives."""
    xy = points(head, outputs)
    targets = [sample.targets for sample in samples]
    assigned: FCOSTargets = assign(
        xy,
        head.strides,
        head.sizes_of_interest,
        targets,
        num_classes=head.num_classes,
        radius=head.radius,
        centres=head.centres,
    )
    counts = [len(p) for p in xy]
    batch = len(samples)

    def ordered(values: Tensor) -> Tensor:
        return published_order(values, counts)

    levels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    first = torch.tensor([0] + [len(t) for t in targets]).cumsum(0)[:-1]
    labels = ordered(assigned.labels)
    positive = (labels != head.num_classes).nonzero()[:, 0]
    tensors = {
        "labels": labels,
        "level": ordered(levels.expand(batch, -1)),
        "im": ordered(torch.arange(batch)[:, None].expand(-1, sum(counts))),
        "pos_inds": positive,
        "pos_gt_inds": ordered(assigned.target_index + first[:, None])[positive],
        "pos_reg_targets": ordered(assigned.distances)[positive],
        "pos_ctr": ordered(assigned.centerness)[positive],
        "pos_loc": ordered(torch.cat(xy).expand(batch, -1, -1))[positive],
    }
    return {name: value.numpy() for name, value in tensors.items()}


def published_order(values: Tensor, counts: list[int]) -> Tensor:
    """B×S… to levels, then images, then positions; ``counts`` are the positions of each level."""
    return torch.cat([part.flatten(0, 1) for part in values.split(counts, dim=1)])


def _polygon_loss(
    model: BasisSegmenter, bases: Bases, positives: Positives, samples: list[Sample]
) -> float:
    """The mask loss as published configurations have it, with polygons instead of bitmaps."""
    blender = model.assembler
    assert isinstance(blender, Blender)
    rois = blender.pool(bases.maps, bases.stride, [sample.targets.boxes for sample in samples])
    truths = [
        drawn_in_box(polygons, box.numpy(), blender.roi_size)
        for sample in samples
        for polygons, box in zip(sample.polygons, sample.targets.boxes, strict=True)
    ]
    index = positives.target_index
    logits = (rois[index] * blender.attention(positives.coefficients)).sum(1)
    loss = mask_bce(logits, torch.stack(truths)[index]) * positives.weights
    return float(loss.sum() / positives.weight_sum)


def drawn_in_box(polygons: list[np.ndarray], box: np.ndarray, size: int) -> Tensor:
    """Polygons scaled from their box to size×size, and drawn there."""
    scale = size / np.maximum(box[2:] - box[:2], 0.1)
    return torch.from_numpy(draw([(p - box[:2]) * scale for p in polygons], size, size)).float()
