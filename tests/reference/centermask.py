"""CenterMask: which published value is compared with what, and how close the two must be.

Inputs and tolerances are BlendMask's. Inference is of one image at a time, as published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.models.two_stage import CenterMaskSegmenter
from b2inst.weights.detectron2 import DETECTRON2
from reference.blendmask import DENSE, GRADIENT, LOSS, TARGET, map_checks
from reference.blendmask_detections import ROUNDING, in_image, published_rows, ranked
from reference.blendmask_inputs import Sample, compare_inputs, read_samples
from reference.centermask_outputs import CenterMaskTraining, Prediction, predict, train
from reference.comparison import Check, Comparison, compare, dense, described, each, exact, within
from reference.fixtures import Case
from reference.matching import BOX_TOLERANCE, SCORE_TOLERANCE, match
from reference.pointrend import distinct, mask_checks
from reference.reference_weights import checksum, make_weights

_BOXES = ("boxes", "mask_boxes", "mask_gt_boxes", "proposal_boxes")
#: Of detections, those of which only some rows are stored.
_SOME_ROWS = ("pooled", "fcn4", "attention_in")


@dataclass
class Outputs:
    """Everything that is compared, as our model computes it."""

    weights: str  #: checksum
    predictions: list[Prediction]
    training: CenterMaskTraining


def verify(case: Case, tell: Callable[[str], None]) -> list[Comparison]:
    """Compare a case; where the inputs contradict each other, only them.

    Args:
        tell: is called with what is done next.

    Raises:
        VerificationError: fixtures that cannot be read.
        b2inst.weights.WeightsError: the spec is not that of a CenterMask.
    """
    samples = read_samples(case)
    inputs = compare_inputs(case, samples)
    if not all(comparison.passed for comparison in inputs):
        tell("the inputs contradict each other; the model is not run")
        return inputs
    return inputs + compare_outputs(case, samples, compute(case, samples, tell))


def compute(case: Case, samples: list[Sample], tell: Callable[[str], None]) -> Outputs:
    """Build the model with the reference's weights; predict, then train for one step."""
    tell("making the weights")
    weights = make_weights(case.spec, case.seed, case.spec_source)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    model = DETECTRON2.load(tensors, source=str(case.spec_source))
    assert isinstance(model, CenterMaskSegmenter)
    tell("predicting")
    predictions = predict(case, model, samples)
    tell("one step of training")
    training = train(case, model, samples, DETECTRON2.own_names(tensors))
    return Outputs(checksum(weights), predictions, training)


def compare_outputs(case: Case, samples: list[Sample], ours: Outputs) -> list[Comparison]:
    """Every array and every fact of the case."""
    checks: dict[str, Check] = {}
    whole: dict[str, NDArray[Any]] = {}
    for i, (sample, prediction) in enumerate(zip(samples, ours.predictions, strict=True)):
        maps = {"input": prediction.images} | prediction.maps
        whole |= {f"im{i}_{name}": values for name, values in maps.items()}
        checks |= _detection_checks(case, i, prediction, sample)
        checks |= _summary_checks(case, i, prediction)
    checks |= map_checks(case, whole)
    checks |= _training_checks(case, ours.training)
    checks |= _fact_checks(case, ours)
    published = case.arrays | case.facts
    published["final_masks_pasted"] = published.get("final_masks_rle")  # looked at in two ways
    return compare(published, checks)


def _value(name: str, value: NDArray[Any], tolerance: float = DENSE) -> Check:
    if name in _BOXES:
        return within(value, BOX_TOLERANCE, "px")
    return dense(value, tolerance) if value.dtype.kind == "f" else exact(value)


def _detection_checks(case: Case, i: int, ours: Prediction, sample: Sample) -> dict[str, Check]:
    found, final = ours.detections, ours.instances
    stored = case.like(f"det{i}_rows", np.arange(len(case.arrays.get(f"det{i}_rows", ()))))
    some = stored.clip(0, len(found["boxes"]) - 1)
    checks = {f"det{i}_rows": distinct(len(found["boxes"]))}
    for name, value in found.items():
        if name in _SOME_ROWS:
            checks[f"det{i}_{name}_rows"] = dense(value[some], DENSE)
        elif name == "mask_logits_allcls":
            checks[f"det{i}_{name}_first1"] = dense(value[0], DENSE)
        elif name == "maskiou_pool":
            checks[f"det{i}_{name}_first4"] = dense(value[:4], DENSE)
        elif name != "top_feat":
            checks[f"det{i}_{name}"] = _value(name, value)
    checks[f"det{i}_scores"] = ranked(found["scores"], np.arange(len(found["scores"])))
    rows = published_rows(case, f"final{i}", final)
    index = match(found | {"boxes": in_image(found["boxes"], sample)}, final)[rows]
    # Ours are ranked by the mask's score, which we keep between 0 and 1.
    rated = case.like(f"det{i}_maskiou", found["maskiou"])[index].clip(0, 1)
    expected = case.like(f"final{i}_scores", final["scores"]) * rated

    def mask_scores(name: str, published: Any) -> Comparison:
        unlimited = case.like(f"det{i}_mask_scores", found["mask_scores"])[index]
        same = within(unlimited, SCORE_TOLERANCE, "")(name, published)
        own = within(final["mask_scores"][rows], SCORE_TOLERANCE, "")(name, expected)
        return same if same.error > own.error else own

    checks |= {
        f"final{i}_boxes": within(final["boxes"][rows], BOX_TOLERANCE, "px"),
        f"final{i}_scores": within(final["scores"][rows], SCORE_TOLERANCE, ""),
        f"final{i}_mask_scores": mask_scores,
        f"final{i}_classes": exact(final["classes"][rows]),
        f"final{i}_det_index": exact(index),
    }
    logits = torch.from_numpy(case.like(f"det{i}_mask_logits", found["mask_logits"]))
    masks = logits.sigmoid().numpy()
    return checks | mask_checks(case, i, final, masks, sample, index, rows)


def _summary_checks(case: Case, i: int, ours: Prediction) -> dict[str, Check]:
    """Counted again in the published arrays, which are compared themselves."""
    found = ours.detections
    scores, mask_scores, levels = (
        case.like(f"det{i}_{name}", found[name]) for name in ("scores", "mask_scores", "pool_level")
    )
    changes = np.argsort(-mask_scores, kind="stable") != np.arange(len(mask_scores))
    checks: dict[str, Check] = {
        "candidates_per_level_cls_over_0.05": exact(ours.candidates),
        "n_after_nms": exact(ours.unlimited),
        "n_det": exact(len(found["boxes"])),
        "n_final": exact(len(ours.instances["boxes"])),
        "pool_levels_3_to_5": exact([int((levels == k).sum()) for k in (3, 4, 5)]),
        "rank_changes": exact(int(changes.sum())),
    }
    for name, values in (("score", scores), ("mask_score", mask_scores)):
        checks[f"{name}_max"] = dense(values.max(), ROUNDING) if len(values) else described
        checks[f"{name}_min"] = dense(values.min(), ROUNDING) if len(values) else described
    return {f"detections_summary[{i}].{name}": check for name, check in checks.items()}


def _training_checks(case: Case, ours: CenterMaskTraining) -> dict[str, Check]:
    checks = {f"train_{name}": _value(name, v, TARGET) for name, v in ours.targets.items()}
    checks["train_level"] = exact(ours.targets["level"] + 3)  # as in P3
    for i, found in enumerate(ours.images):
        checks |= {f"train_{name}_{i}": _value(name, value) for name, value in found.items()}
        checks[f"train_proposal_scores_{i}"] = within(found["proposal_scores"], SCORE_TOLERANCE, "")
        checks[f"train_roi_sampled_{i}"] = distinct(len(found["roi_label"]))
    checks |= {f"train_{name}": _value(name, value) for name, value in ours.rois.items()}
    for name, loss in ours.losses.items():
        checks[f"train_losses.{name}"] = dense(loss, LOSS)
    positive, level = ours.targets["pos_inds"], ours.targets["level"]
    return checks | {
        "train_total": dense(sum(ours.losses.values()), LOSS),
        "train_input_shape": exact(ours.input_shape),
        "grad_norms": each(ours.gradients, GRADIENT),
        "no_grad_params": exact(ours.without_gradient),
        "num_pos": exact(len(positive)),
        "loss_denorm_sum_ctr": dense(ours.targets["pos_ctr"].sum(dtype=np.float64), TARGET),
        "pos_per_level": exact(np.bincount(level[positive], minlength=level.max() + 1)),
    }


def _fact_checks(case: Case, ours: Outputs) -> dict[str, Check]:
    images = [prediction.images for prediction in ours.predictions]
    summary = _train_summary(case, ours.training)
    return {
        "weights_crc32": exact(ours.weights),
        "seed": exact(case.seed),
        "input_shape": exact([image.shape for image in images]),
        "input_sum": dense([image.sum(dtype=np.float64) for image in images], TARGET),
        "versions": described,
        "train_loss_dtypes": described,
        "gt_area_dtype": described,
    } | {f"train_summary.{name}": check for name, check in summary.items()}


def _train_summary(case: Case, ours: CenterMaskTraining) -> dict[str, Check]:
    rois = ours.rois
    checks: dict[str, Check] = {}
    for i, found in enumerate(ours.images):
        label = found["roi_label"]
        proposals = len(found["proposal_boxes"])
        objects = int((label < ours.targets["labels"].max()).sum())
        counts = {
            "n_proposals": proposals,
            "n_with_gt": len(label),
            "fg_candidates": objects,
            "sampled_fg": objects,
            "sampled_bg": len(label) - objects,
        }
        checks |= {f"per_image[{i}].{name}": exact(count) for name, count in counts.items()}
    levels, targets, visible, whole, boxes = (
        case.like(f"train_{name}", rois[name])
        for name in (
            "pool_level",
            "maskiou_targets",
            "visible_raster_area",
            "polygon_area",
            "mask_boxes",
        )
    )
    share = visible / whole
    return checks | {
        "n_mask_rois": exact(len(boxes)),
        "pool_levels_3_to_5": exact([int((levels == k).sum()) for k in (3, 4, 5)]),
        "maskiou_target_min": dense(targets.min(), ROUNDING),
        "maskiou_target_max": dense(targets.max(), ROUNDING),
        "maskiou_targets_positive": exact(int((targets > 0).sum())),
        "maskiou_target_dtype": described,
        "ratio_clamped_at_1": exact(int((share > 1).sum())),
        "ratio_below_0.9": exact(int((share < 0.9).sum())),
        "proposal_boxes_require_grad_in_fcos": described,
        "torch_manual_seed_before_training": described,
        "mask_boxes_outside_image": exact(int((boxes < 0).any(1).sum())),
    }
