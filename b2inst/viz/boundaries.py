"""The boundaries that several models predict for the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from b2inst.data import CocoIndex
from b2inst.data.images import as_array, read_image
from b2inst.models import BasisSegmenter, Explanation
from b2inst.modules.boundary_basis import BoundaryLoss, BoundarySupervision
from b2inst.ops.boundary import laplacian_boundary
from b2inst.viz.choose import Choice
from b2inst.viz.draw import draw_heat, draw_instances
from b2inst.viz.qualitative import Explainer, picture_grid, truth_instances


def boundary_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    models: Mapping[str, Explainer],
    *,
    across: int = 1,
    width: float = 2.7,
    note: str = "",
) -> Figure:
    """Draw the chosen images: ground truth | target | the boundary of each model that has one.

    Args:
        models: by the name over their column. The target is at the basis grid of the first one
            with a boundary; there are two where some are taught one side and others both.
        across, width, note: as ``picture_grid`` takes them.
    """
    records = {record.id: record for record in index.images}
    rows, columns = [], ["ground truth"]
    for choice in choices:
        record = records[choice.image_id]
        picture = as_array(read_image(record.path))
        truth = truth_instances(index, record)
        row = [draw_instances(picture, truth, captions=False)]
        found = {name: model.explain(picture) for name, model in models.items()}
        maps = {name: e.boundary for name, e in found.items() if e.boundary is not None}
        if maps:
            first = found[next(iter(maps))]
            sides = dict.fromkeys(two_sided(models[name]) for name in maps)
            targets = {
                "target, both sides" if both and len(sides) > 1 else "target": target_at(
                    truth.masks, first, two_sided=both
                )
                for both in sides
            }
            maps = targets | maps
        columns = ["ground truth", *maps]
        rows.append(row + [draw_heat(values, row[0].shape[:2]) for values in maps.values()])
    labels = [f"image {choice.image_id}\n{choice.reason}" for choice in choices]
    return picture_grid(rows, columns, labels, across=across, width=width, note=note)


def target_at(masks: Tensor, explanation: Explanation, *, two_sided: bool = False) -> Tensor:
    """The holistic boundary of N×H×W masks at the grid of an explanation, h×w.

    Args:
        two_sided: as in ``boundary_target``.
    """
    sampled = F.interpolate(masks[:, None].float(), explanation.content, mode="nearest-exact")
    boundary = laplacian_boundary(sampled[:, 0])
    if two_sided:
        boundary |= laplacian_boundary(~sampled[:, 0].bool())
    return boundary.any(0).float()


def taught(model: Explainer) -> bool:
    """Whether a model predicts a boundary that is supervised, and not left to the masks' loss."""
    criterion = _criterion(model)
    return criterion is not None and any(criterion.weights.values())


def two_sided(model: Explainer) -> bool:
    """Whether the boundary that a model is taught is marked on both sides."""
    return getattr(_criterion(model), "two_sided", False)


def _criterion(model: Explainer) -> BoundaryLoss | None:
    head = model.basis_head if isinstance(model, BasisSegmenter) else None
    return head.criterion if isinstance(head, BoundarySupervision) else None
