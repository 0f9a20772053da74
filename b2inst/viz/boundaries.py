"""The boundaries that several models predict for the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from b2inst.data import CocoIndex
from b2inst.data.images import as_array, read_image
from b2inst.models import BasisSegmenter, Explanation
from b2inst.modules.boundary_basis import BoundarySupervision
from b2inst.modules.refinement import BoundaryDiffusion
from b2inst.ops.boundary import laplacian_boundary
from b2inst.viz.choose import Choice
from b2inst.viz.draw import draw_heat, draw_instances
from b2inst.viz.grid import picture_grid
from b2inst.viz.qualitative import Explainer, truth_instances


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


def boundary_target(masks: Tensor, explanation: Explanation, *, two_sided: bool = False) -> Tensor:
    """Compute the holistic boundary of N×H×W masks on the grid of an explanation, h×w.

    Args:
        masks: Masks of the objects.
        explanation: Explanation of their image.
        two_sided: Whether cells on both sides of a boundary are marked.
    """
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
