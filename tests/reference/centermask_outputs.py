"""What our CenterMask computes from the fixtures' weights and inputs, under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from b2inst.models.two_stage import CenterMaskSegmenter
from b2inst.modules import center_mask, mask_heads
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Detections, Instances, of_class
from reference.blendmask_inputs import Sample, draw
from reference.blendmask_outputs import (
    Arrays,
    arrays,
    detection_arrays,
    feature_maps,
    head_maps,
    record,
    test_size,
    watch,
)
from reference.blendmask_training import LOSSES as FCOS_LOSSES
from reference.blendmask_training import drawn_in_box, target_arrays
from reference.fixtures import Case
from reference.matching import match

Index = NDArray[np.int64]

#: The published names of our losses.
LOSSES = FCOS_LOSSES | {"loss_iou_score": "loss_maskiou"}

_MATCHED = ("boxes", "scores", "classes")


@dataclass
class Prediction:
    """What inference gives for one image by itself."""

    images: NDArray[np.float32]  #: 1×3×H×W, the network's input
    maps: Arrays  #: whole dense maps, 1×C×h×w
    detections: Arrays  #: in the published order, by the published name's ending
    instances: Arrays  #: not ordered; masks are N×H×W bool
    candidates: list[int]  #: over the threshold, of each level
    unlimited: int  #: detections without a limit


@dataclass
class CenterMaskTraining:
    """What one step without an update gives."""

    targets: Arrays  #: of FCOS, positions in the published order
    images: list[Arrays]  #: of each image, proposals and what they are of
    rois: Arrays  #: boxes whose masks are trained, in the published order
    losses: dict[str, float]
    gradients: dict[str, float]  #: L2 norm, by published name
    without_gradient: list[str]
    input_shape: list[int]


def predict(case: Case, model: CenterMaskSegmenter, samples: list[Sample]) -> list[Prediction]:
    """Run ``model.predict`` on each image alone, as published, and keep what the parts gave."""
    preprocessor = model.preprocessor
    assert isinstance(preprocessor, Preprocessor)
    preprocessor.shorter, preprocessor.longer_max = test_size(samples)
    model.eval()
    with torch.inference_mode():
        return [_predict(case, i, model, sample) for i, sample in enumerate(samples)]


def _predict(case: Case, i: int, model: CenterMaskSegmenter, sample: Sample) -> Prediction:
    parts = {
        "batch": model.preprocessor,
        "stages": model.backbone.body,
        "features": model.backbone,
        "head": model.detector.head,
        "outputs": model.mask_head,
        "fcn4": model.mask_head.convs,
        "ious": model.scoring_head,
    }
    with (
        watch(parts) as seen,  # type: ignore[arg-type]
        record(model.mask_head.attention.conv, "forward") as attention,
        record(model.scoring_head.convs, "forward") as scored,
        record(center_mask, "adaptive_levels") as levels,
    ):
        (instances,) = model.predict([sample.original])
    head, outputs = model.detector.head, seen["head"]
    (found,) = head.detect(outputs)
    detected = detection_arrays(found, 0, head, outputs) | arrays(
        pool_level=levels[0][1] + 3,
        pooled=seen["outputs"].pooled,
        fcn4=seen["fcn4"],
        attention_in=attention[0][0][0],
        attention=attention[0][1][:, 0].sigmoid(),
        mask_logits=seen["outputs"].of_class(found.labels),
        mask_logits_allcls=seen["outputs"].logits,
        maskiou_pool=scored[0][0][0][:, -1],
        maskiou_all=seen["ious"],
        maskiou=of_class(seen["ious"], found.labels),
        mask_scores=found.scores * of_class(seen["ious"], found.labels),
    )
    rows = _published_rows(case, f"det{i}_{{}}", detected)
    probability = outputs.class_logits[0].sigmoid()
    counts = [tower.shape[2] * tower.shape[3] for tower in outputs.towers]
    return Prediction(
        images=seen["batch"].images.numpy(),
        maps=feature_maps(seen["stages"], seen["features"]) | head_maps(head, outputs),
        detections={name: value[rows] for name, value in detected.items()},
        instances=_instance_arrays(instances),
        candidates=[int((p > head.score_threshold).sum()) for p in probability.split(counts)],
        unlimited=len(head.detect(outputs, limit=10**6)[0]),
    )


def _instance_arrays(found: Instances) -> Arrays:
    return arrays(
        boxes=found.boxes,
        scores=found.class_scores,
        mask_scores=found.scores,
        classes=found.labels,
        masks=found.masks,
    )


def _published_rows(case: Case, name: str, ours: Arrays) -> Index:
    """Our row of each published detection."""
    return match(ours, {of: case.like(name.format(of), ours[of]) for of in _MATCHED})


def train(
    case: Case, model: CenterMaskSegmenter, samples: list[Sample], names: Mapping[str, str]
) -> CenterMaskTraining:
    """One forward and backward pass on the batch of all images, with masks that are polygons.

    Args:
        names: published name of a tensor to ours.
    """
    polygons = _Polygons(samples)
    inputs = [torch.from_numpy(s.resized).permute(2, 0, 1).contiguous() for s in samples]
    head, mask_head, scorer = model.detector.head, model.mask_head, model.scoring_head
    assert scorer is not None
    model.train()
    with (
        watch({"batch": model.preprocessor, "head": head, "ious": scorer}) as seen,
        record(head, "detect") as detected,
        record(mask_heads, "class_mask_loss") as mask_losses,
        record(mask_head.attention.conv, "forward") as attention,
        record(center_mask, "adaptive_levels") as levels,
        record(center_mask, "boxes_on_objects") as chosen,
        record(mask_heads, "mask_iou_target") as iou_targets,
        patch.object(mask_heads, "crop_masks", polygons.crop),
        patch.object(mask_heads, "share_inside", polygons.inside),
    ):
        losses = model(inputs, [sample.targets for sample in samples])
    torch.stack(list(losses.values())).sum().backward()
    images, order = [], []
    for i, (found, (_, own)) in enumerate(zip(detected[0][1], chosen, strict=True)):
        image, rows = _assigned(case, i, found, samples[i], head, seen["head"])
        images.append(image)
        order.append(rows + sum(len(made) for _, made in chosen[:i]))
        assert len(rows) == len(own)
    logits, labels, truths = mask_losses[0][0]
    rois = _roi_arrays(torch.cat(order), logits, labels, truths, polygons) | {
        name: value[torch.cat(order)]
        for name, value in arrays(
            mask_boxes=torch.cat([own.boxes for _, own in chosen]),
            mask_gt_boxes=torch.cat(
                [s.targets.boxes[o.target_index] for s, (_, o) in zip(samples, chosen, strict=True)]
            ),
            pool_level=levels[0][1] + 3,
            attention=attention[0][1][:, 0].sigmoid(),
            maskiou_targets=iou_targets[0][1],
            maskiou_pred_gtclass=of_class(seen["ious"], labels),
        ).items()
    }
    own_parameters = dict(model.named_parameters())
    parameters = {
        theirs: own_parameters[ours] for theirs, ours in names.items() if ours in own_parameters
    }
    targets = target_arrays(head, seen["head"], samples)
    return CenterMaskTraining(
        targets={n: v for n, v in targets.items() if n not in ("pos_gt_inds", "pos_loc")},
        images=images,
        rois=rois,
        losses={LOSSES.get(name, name): value.item() for name, value in losses.items()},
        gradients={n: float(p.grad.norm()) for n, p in parameters.items() if p.grad is not None},
        without_gradient=[n for n, p in parameters.items() if p.grad is None],
        input_shape=list(seen["batch"].images.shape),
    )


class _Polygons:
    """Crops and areas of the objects' polygons, where our models have bitmaps."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.visible: list[float] = []
        self.whole: list[float] = []

    def _of(self, masks: Tensor, index: Tensor) -> list[list[NDArray[np.float64]]]:
        (sample,) = (s for s in self.samples if s.targets.masks is masks)
        return [sample.polygons[k] for k in index.tolist()]

    def crop(self, masks: Tensor, boxes: Tensor, size: int, *, index: Tensor) -> Tensor:
        own = zip(self._of(masks, index), boxes.numpy(), strict=True)
        crops = [drawn_in_box(polygons, box, size) for polygons, box in own]
        return torch.stack(crops) if crops else torch.zeros(0, size, size)

    def inside(self, masks: Tensor, boxes: Tensor, index: Tensor) -> Tensor:
        """Drawn area on a canvas of whole pixels over the area between the lines; at most 1."""
        shares = []
        for polygons, box in zip(self._of(masks, index), boxes.numpy(), strict=True):
            width, height = (box[2:] - box[:2]).astype(int)
            drawn = [draw([p - box[:2]], height, width).sum(dtype=np.float64) for p in polygons]
            self.visible.append(sum(drawn))
            self.whole.append(sum(_area(p) for p in polygons))
            shares.append(min(self.visible[-1] / self.whole[-1], 1))
        return torch.tensor(shares, dtype=torch.float64)


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _assigned(
    case: Case, i: int, found: Detections, sample: Sample, head: Any, outputs: Any
) -> tuple[Arrays, Tensor]:
    """Proposals and their objects as published; our row of each published box with a mask."""
    proposals = detection_arrays(found, i, head, outputs)
    rows = _published_rows(case, f"train_proposal_{{}}_{i}", proposals)
    proposals = {name: value[rows] for name, value in proposals.items()}
    truth = sample.targets
    boxes = torch.cat([torch.from_numpy(proposals["boxes"]), truth.boxes])
    overlap, index = box_iou(boxes, truth.boxes).max(1)
    labels = torch.where(overlap >= 0.5, truth.labels[index], head.num_classes)
    image = arrays(roi_label=labels, roi_gt=index)
    for name in ("boxes", "scores", "classes", "locations"):
        image[f"proposal_{name}"] = proposals[name]
    sampled = torch.from_numpy(case.arrays[f"train_roi_sampled_{i}"].astype(np.int64))
    objects = sampled[labels[sampled] < head.num_classes]
    own = torch.cat([torch.from_numpy(rows), torch.arange(len(rows), len(boxes))])[objects]
    return image, own.argsort().argsort()


def _roi_arrays(
    order: Tensor, logits: Tensor, labels: Tensor, truths: Tensor, polygons: _Polygons
) -> Arrays:
    return arrays(
        mask_classes=labels[order],
        mask_logits_gtclass=of_class(logits, labels)[order],
        visible_raster_area=torch.tensor(polygons.visible, dtype=torch.float64)[order],
        polygon_area=torch.tensor(polygons.whole, dtype=torch.float64)[order],
    ) | {"mask_targets_packed": np.packbits(truths[order].flatten(1).numpy() > 0, axis=1)}
