"""What one training step of our CondInst computes from the fixtures, under the published names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from b2inst.losses import mask_dice
from b2inst.models import BasisSegmenter
from b2inst.modules.basis_heads import MaskBranch
from b2inst.modules.dynamic_mask_head import DynamicMaskHead, best_of_objects
from b2inst.modules.fcos_head import CondInstHead
from b2inst.modules.fcos_targets import mask_centroids
from b2inst.structures import Bases, Positives, Targets
from reference.blendmask_inputs import Sample, draw
from reference.blendmask_outputs import Arrays, arrays, points
from reference.blendmask_training import LOSSES, Training, fcos_step, published_order

#: The published names of our losses.
CONDINST_LOSSES = LOSSES | {"loss_semantic": "loss_sem"}


@dataclass
class CondInstTraining:
    """What one step without an update gives."""

    fcos: Training  #: what is as in BlendMask; statistics are of two norms of the mask branch
    mask_arrays: Arrays  #: of the masks' training; positives in the published order
    input_shape: list[int]
    polygon_positives: int  #: when masks are polygons drawn on the padded canvas
    polygons_are_bitmaps: bool  #: whether those are the bitmaps, pixel for pixel
    rows_of_best: Callable[[int], NDArray[np.int64]]  #: positives trained, by number an image
    mask_loss: Callable[[NDArray[np.int64]], float]  #: of the positives in some rows


def train(
    model: BasisSegmenter, samples: list[Sample], names: Mapping[str, str]
) -> CondInstTraining:
    """One forward and backward pass on the batch of all images, from fresh running statistics.

    Args:
        names: published name of a tensor to ours.
    """
    head, assembler, branch = model.instance_head, model.assembler, model.basis_head
    assert isinstance(head, CondInstHead)
    assert isinstance(assembler, DynamicMaskHead)
    assert isinstance(branch, MaskBranch)
    step, seen = fcos_step(model, samples, names, CONDINST_LOSSES)
    outputs, bases = seen["outputs"], seen["bases"]
    targets = [sample.targets for sample in samples]
    height, width = (side * int(bases.stride) for side in bases.maps.shape[-2:])
    drawn = [_drawn(sample, height, width) for sample in samples]
    counts = [len(xy) for xy in points(head, outputs)]
    with torch.no_grad():
        _, positives = head.loss(outputs, targets)
        positives = positives[_published_rows(step.targets["pos_inds"], counts, len(samples))]
        polygon_losses, others = head.loss(outputs, drawn)
        polygon_losses |= assembler.loss(bases, others, drawn)

    def rows_of_best(per_image: int) -> NDArray[np.int64]:
        numbers = torch.arange(len(positives))[:, None]
        chosen = best_of_objects(replace(positives, coefficients=numbers), per_image=per_image)
        rows: NDArray[np.int64] = chosen.coefficients[:, 0].numpy()
        return rows

    def mask_loss(rows: NDArray[np.int64]) -> float:
        with torch.no_grad():
            chosen = positives[torch.from_numpy(rows)]
            return assembler.loss(bases, chosen, targets)["loss_mask"].item()

    norms = {"refine.0.1": branch.refine[0][1], "tower.3.1": branch.convs[3][1]}  # type: ignore[index]
    statistics = {
        f"{kind}_{place}": getattr(norm, f"running_{kind}").numpy()
        for place, norm in norms.items()
        for kind in ("mean", "var")
    }
    named = {CONDINST_LOSSES[name]: value.item() for name, value in polygon_losses.items()}
    return CondInstTraining(
        fcos=replace(step, polygon_losses=named, statistics=statistics),
        mask_arrays=_mask_arrays(assembler, bases, positives, targets),
        input_shape=[len(samples), 3, height, width],
        polygon_positives=len(others),
        polygons_are_bitmaps=_same_pixels(targets, drawn),
        rows_of_best=rows_of_best,
        mask_loss=mask_loss,
    )


def losses(model: BasisSegmenter, samples: list[Sample]) -> dict[str, float]:
    """By published name, without a backward pass."""
    images = [torch.from_numpy(s.resized).permute(2, 0, 1).contiguous() for s in samples]
    with torch.no_grad():
        found = model.train()(images, [sample.targets for sample in samples])
    return {CONDINST_LOSSES[name]: value.item() for name, value in found.items()}


def _published_rows(flat: NDArray[np.int64], counts: list[int], batch: int) -> Tensor:
    """Our row of each positive in the published order: level, image, place.

    Args:
        flat: the positives' published numbers among all positions.
        counts: positions of each level.
    """
    own = torch.arange(batch * sum(counts)).view(batch, -1)  # image, level, place
    return published_order(own, counts)[flat].argsort().argsort()


def _mask_arrays(
    assembler: DynamicMaskHead, bases: Bases, positives: Positives, targets: list[Targets]
) -> Arrays:
    with torch.no_grad():
        logits = assembler.enlarged(
            assembler.logits(bases, positives.image_index, positives.coefficients)
        )
        truths = assembler.truths(bases, targets)
        dice = mask_dice(logits.sigmoid(), truths[positives.target_index])
    found = arrays(
        pos_params=positives.coefficients[:, :-3],
        mask_feats=bases.maps,
        pos_mask_logits_s4_first4=logits[:4],
        pos_dice_loss=dice,
    )
    for i, own in enumerate(truths.split([len(target) for target in targets])):
        found[f"gt_bitmask_s4_packed_{i}"] = np.packbits(own.flatten(1).numpy(), axis=1)
        found[f"gt_bitmask_s4_shape_{i}"] = np.array(own.shape)
        found[f"gt_bitmask_centre_{i}"] = mask_centroids(targets[i]).numpy()
    return found


def _drawn(sample: Sample, height: int, width: int) -> Targets:
    """Targets whose masks are the polygons, drawn on the padded canvas."""
    masks = np.array([draw(own, height, width) for own in sample.polygons], np.uint8)
    return replace(sample.targets, masks=torch.from_numpy(masks.reshape(-1, height, width)))


def _same_pixels(targets: list[Targets], drawn: list[Targets]) -> bool:
    for target, other in zip(targets, drawn, strict=True):
        height, width = target.masks.shape[1:]
        padded = torch.zeros_like(other.masks)
        padded[:, :height, :width] = target.masks
        if not padded.equal(other.masks):
            return False
    return True
