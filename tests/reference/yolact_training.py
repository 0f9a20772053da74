"""What one training step of our YOLACT computes from the fixtures, under the published names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from b2inst.models import BasisSegmenter
from b2inst.modules.basis_heads import PrototypeHead
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.prior_box_head import PriorBoxHead
from b2inst.modules.semantic_heads import ClassMapHead
from b2inst.structures import Positives
from reference.blendmask_outputs import Arrays, watch
from reference.yolact_inputs import Sample

#: The published names of our losses.
LOSSES = {"loss_box": "B", "loss_mask": "M", "loss_class": "C", "loss_semantic": "S"}


@dataclass
class Training:
    """What one step without an update gives."""

    targets: list[Arrays]  #: of each image
    losses: dict[str, float]  #: with fixed batch norm
    few_masks_loss: float  #: the mask loss where only the given positives are trained
    gradients: dict[str, float]  #: L2 norm, by published name, with fixed batch norm
    batch_losses: dict[str, float]  #: with the batch's own statistics
    semantic_logits: Tensor  #: B×C×h×w


def train(
    model: BasisSegmenter,
    samples: list[Sample],
    names: Mapping[str, str],
    ranks: Sequence[Sequence[int]],
) -> Training:
    """A forward and backward pass with fixed batch norm; a forward pass with the batch's.

    Args:
        names: published name of a tensor to ours.
        ranks: of each image, which of its positives train a mask where not all do.
    """
    head, prototypes, assembler = model.instance_head, model.basis_head, model.assembler
    assert isinstance(head, PriorBoxHead)
    assert isinstance(prototypes, PrototypeHead)
    assert isinstance(prototypes.auxiliary, ClassMapHead)
    assert isinstance(assembler, LinearAssembler)
    images = [model.preprocessor.resized(sample.original) for sample in samples]
    targets = [sample.targets for sample in samples]
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    model.train()
    for norm in norms:
        norm.eval().requires_grad_(False)
    parts = {"features": model.backbone, "outputs": head, "bases": prototypes}
    with watch(parts) as seen:
        losses = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        _, positives = head.loss(seen["outputs"], targets)
        few = sum(
            float(assembler.loss(seen["bases"], part, targets)["loss_mask"]) * share
            for part, share in _chosen(positives, ranks)
        )
        semantic = prototypes.auxiliary.project(seen["features"][prototypes.auxiliary.stride])
        model.train()
        batch_losses = model(images, targets)
    own = dict(model.named_parameters())
    reached = {theirs: own[ours].grad for theirs, ours in names.items() if ours in own}
    assigned = head.targets(head.priors(seen["outputs"]), targets)
    return Training(
        targets=[
            {
                "conf_t": (labels + 1).numpy(),
                "idx_t_pos": index[labels >= 0].numpy(),
                "loc_t_pos": offsets[labels >= 0].numpy(),
            }
            for labels, index, offsets in zip(
                assigned.labels, assigned.target_index, assigned.offsets, strict=True
            )
        ],
        losses=_named(losses),
        few_masks_loss=few,
        gradients={name: float(g.norm()) for name, g in reached.items() if g is not None},
        batch_losses=_named(batch_losses),
        semantic_logits=semantic,
    )


def _chosen(positives: Positives, ranks: Sequence[Sequence[int]]) -> list[tuple[Positives, float]]:
    """Of each image the positives given, and how many each of them stands for."""
    found = []
    for image, rows in enumerate(ranks):
        own = positives[positives.image_index == image]
        found.append((own[torch.tensor(rows)], len(own) / len(rows)))
    return found


def _named(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {LOSSES[name]: value.item() for name, value in losses.items()}
