"""What our PointRend computes from the fixtures' weights and inputs, under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from b2inst.models import TwoStageSegmenter
from b2inst.modules import point_rend
from b2inst.modules.point_rend import points_of_cells
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import ImageBatch
from reference.blendmask_inputs import Sample
from reference.blendmask_outputs import (
    Arrays,
    arrays,
    feature_maps,
    instance_arrays,
    record,
    test_size,
    watch,
)
from reference.fixtures import Case
from reference.matching import match

Index = NDArray[np.int64]

#: Side of the first rendered resolution, and of those at which some cells are computed again.
FIRST, REFINED = 28, (56, 112, 224)


@dataclass
class Prediction:
    """What inference gives for one image by itself, in the published order of rows."""

    images: NDArray[np.float32]  #: 1×3×H×W, the network's input
    maps: Arrays  #: whole dense maps, 1×C×h×w
    proposals: Arrays
    detections: Arrays
    points: Arrays  #: at the published cells, by the published names' endings
    instances: Arrays  #: not ordered; masks are N×H×W bool


def predict(case: Case, model: TwoStageSegmenter, samples: list[Sample]) -> list[Prediction]:
    """Run ``model.predict`` on each image alone, as published, and keep what the parts gave."""
    preprocessor = model.preprocessor
    assert isinstance(preprocessor, Preprocessor)
    preprocessor.shorter, preprocessor.longer_max = test_size(samples)
    model.eval()
    model.optimised = False  # of 50,000 anchors some are equal but for rounding
    with torch.inference_mode():
        return [_predict(case, i, model, sample) for i, sample in enumerate(samples)]


def _predict(case: Case, i: int, model: TwoStageSegmenter, sample: Sample) -> Prediction:
    heads = model.detector.roi_heads
    parts = {
        "batch": model.preprocessor,
        "stages": model.backbone.body,
        "features": model.backbone,
        "rpn_head": model.detector.rpn.head,
        "rpn": model.detector.rpn,
        "pooled": heads.box_roi_pool,
        "box_feat": heads.box_head,
        "predicted": heads.box_predictor,
        "outputs": model.mask_head,
    }
    with watch(parts) as seen, record(model.detector.rpn, "filter_proposals") as filtered:
        (instances,) = model.predict([sample.original])
    maps = feature_maps(seen["stages"], seen["features"])
    for k, (logits, deltas) in enumerate(zip(*seen["rpn_head"], strict=True)):
        maps |= arrays(**{f"rpn_obj_{k + 2}": logits, f"rpn_delta_{k + 2}": deltas})
    batch: ImageBatch = seen["batch"]
    ((boxes,), _) = seen["rpn"]
    found = arrays(boxes=boxes, logits=proposal_logits(filtered[0][0], 0, boxes))
    rows = proposal_rows(case, f"im{i}_proposal_{{}}", found)
    made = torch.from_numpy(case.arrays["made_boxes"])
    made_pooled = heads.box_roi_pool(seen["features"], [made])
    proposals = {name: value[rows] for name, value in found.items()} | _box_arrays(
        pooled=seen["pooled"][rows],
        box_feat=seen["box_feat"][rows],
        predicted=[value[rows] for value in seen["predicted"]],
        pool_level=heads.box_roi_pool.level([boxes[rows]]) + 2,  # type: ignore[operator]
    )
    made_arrays = _box_arrays(
        pooled=made_pooled,
        predicted=heads.box_predictor(heads.box_head(made_pooled)),
        pool_level=heads.box_roi_pool.level([made]) + 2,  # type: ignore[operator]
    )
    proposals |= {f"made_{name}": value for name, value in made_arrays.items()}
    detections, points = _detected(case, i, model, seen, boxes[rows], proposals)
    return Prediction(
        images=batch.images.numpy(),
        maps=maps,
        proposals=proposals,
        detections=detections,
        points=points,
        instances=instance_arrays(instances),
    )


def _box_arrays(predicted: Any, **tensors: Tensor) -> Arrays:
    """Class scores with background last and deltas without it, as published."""
    scores, deltas = predicted
    return arrays(**tensors, cls_score=scores.roll(-1, 1), bbox_delta=deltas[:, 4:])


def proposal_logits(call: tuple[Any, ...], image: int, boxes: Tensor) -> Tensor:
    """Logits of an image's proposals, which come without: those of the anchors they were made of.

    Args:
        call: arguments of ``RegionProposalNetwork.filter_proposals``.
    """
    moved, logits, sizes, _ = call
    height, width = sizes[image]
    x, y = moved[image, :, 0::2].clamp(0, width), moved[image, :, 1::2].clamp(0, height)
    clipped = torch.stack([x, y], 2).flatten(1).tolist()
    own = logits.view(len(moved), -1)[image].tolist()
    by_box = dict(sorted(zip(map(tuple, clipped), own, strict=True)))  # the largest of equal ones
    return torch.tensor([by_box[tuple(box)] for box in boxes.tolist()])


def proposal_rows(case: Case, name: str, ours: Arrays) -> Index:
    """Our row of each published proposal; ``name`` has a place for boxes or logits."""

    def comparable(of: Arrays) -> Arrays:
        # Logits are larger than scores; what is almost equal in them is as close.
        zeros = np.zeros(len(of["boxes"]), np.int64)
        return {"boxes": of["boxes"], "scores": of["logits"] / 10, "classes": zeros}

    published = {of: case.like(name.format(of), ours[of]) for of in ("boxes", "logits")}
    return match(comparable(ours), comparable(published))


def _detected(
    case: Case,
    i: int,
    model: TwoStageSegmenter,
    seen: Mapping[str, Any],
    proposals: Tensor,
    predicted: Arrays,
) -> tuple[Arrays, Arrays]:
    outputs: point_rend.RenderedMasks = seen["outputs"]
    (found,) = model.detector.detect(seen["features"], seen["batch"])
    own = arrays(boxes=found.boxes, scores=found.scores, classes=found.labels)
    names = ("boxes", "scores", "classes")
    rows = match(own, {name: case.like(f"det{i}_{name}", own[name]) for name in names})
    own = {name: value[rows] for name, value in own.items()}
    boxes, labels = torch.from_numpy(own["boxes"]), torch.from_numpy(own["classes"])
    deltas = torch.from_numpy(predicted["bbox_delta"])
    moved = model.detector.roi_heads.box_coder.decode(deltas, [proposals])
    height, width = seen["batch"].sizes[0]
    x, y = moved[..., 0::2].clamp(0, width), moved[..., 1::2].clamp(0, height)
    moved = torch.stack([x, y], 3).flatten(2)[:, labels]
    own["proposal"] = (moved - boxes).abs().amax(2).argmin(0).numpy()
    coarse = outputs.coarse.logits[rows]
    own |= arrays(coarse_pooled=outputs.coarse.pooled[rows], coarse_logits=coarse)
    # Both as published: on these steep maps a point that is off by 1e-4 pixels is off in its logit.
    boxes = torch.from_numpy(case.like(f"det{i}_boxes", own["boxes"]))
    coarse = torch.from_numpy(case.like(f"det{i}_coarse_logits", own["coarse_logits"]))
    return own, _points(case, i, outputs, boxes, labels, coarse)


def _points(
    case: Case,
    i: int,
    outputs: point_rend.RenderedMasks,
    boxes: Tensor,
    labels: Tensor,
    coarse: Tensor,
) -> Arrays:
    """The point head at all cells of the first resolution, and at the published ones of others."""
    found: Arrays = {}
    for size in (FIRST, *REFINED):
        cells = np.broadcast_to(np.arange(FIRST**2, dtype=np.int32), (len(boxes), FIRST**2))
        cells = case.like(f"det{i}_point_index_{size}", cells)
        points = points_of_cells(torch.from_numpy(cells.astype(np.int64)), size)
        logits = outputs.head.point_logits(outputs.features, [boxes], coarse, points)
        own = logits[torch.arange(len(labels)), labels]
        found |= arrays(
            **{f"point_logits_{size}": own, f"point_logits_{size}_allcls_first1": logits[0]}
        )
        if size == FIRST:
            fine = outputs.head.features_at(outputs.features, [boxes[:1]], points[:1, ::7])
            found |= arrays(point_fine_28_first1_every7=fine[0].mT)
    return found
