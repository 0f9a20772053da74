"""PointRend: which published value is compared with what, and how close the two must be.

Inputs and tolerances are BlendMask's. Inference is of one image at a time, as published; what was
drawn at random in training is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from b2inst.models import TwoStageSegmenter
from b2inst.modules.point_rend import least_certain, map_points
from b2inst.weights.detectron2 import DETECTRON2
from reference.blendmask import DENSE, GRADIENT, LOSS, TARGET, map_checks
from reference.blendmask_detections import ROUNDING, in_image, published_rows, ranked
from reference.blendmask_inputs import Sample, compare_inputs, read_samples
from reference.comparison import (
    Check,
    Comparison,
    compare,
    dense,
    described,
    each,
    exact,
    failed,
    within,
)
from reference.final_masks import read_masks
from reference.fixtures import Case
from reference.matching import BOX_TOLERANCE, match
from reference.pointrend_outputs import FIRST, REFINED, Prediction, predict
from reference.pointrend_training import PointRendTraining, train
from reference.reference_weights import checksum, make_weights

#: Logits this close to a threshold are on either side of it by rounding, relative to the largest.
UNDECIDED = 1e-6

#: Of logits at points of our own boxes, whose last bits tell on maps as steep as these.
POINT = 3e-4

#: A detection's least score.
THRESHOLD = 0.05


@dataclass
class Outputs:
    """Everything that is compared, as our model computes it."""

    weights: str  #: checksum
    predictions: list[Prediction]
    training: PointRendTraining


def verify(case: Case, tell: Callable[[str], None]) -> list[Comparison]:
    """Compare a case; where the inputs contradict each other, only them.

    Args:
        tell: is called with what is done next.

    Raises:
        VerificationError: fixtures that cannot be read.
        b2inst.weights.WeightsError: the spec is not that of a PointRend.
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
    assert isinstance(model, TwoStageSegmenter)
    tell("predicting")
    predictions = predict(case, model, samples)
    tell("one step of training")
    training = train(case, model, samples, DETECTRON2.own_names(tensors))
    return Outputs(checksum(weights), predictions, training)


def compare_outputs(case: Case, samples: list[Sample], ours: Outputs) -> list[Comparison]:
    """Every array and every fact of the case."""
    checks: dict[str, Check] = {"made_boxes": described}
    whole: dict[str, NDArray[Any]] = {}
    for i, (sample, prediction) in enumerate(zip(samples, ours.predictions, strict=True)):
        maps = {"input": prediction.images} | prediction.maps
        whole |= {f"im{i}_{name}": values for name, values in maps.items()}
        checks |= _proposal_checks(case, i, prediction)
        checks |= _point_checks(case, i, prediction)
        checks |= _detection_checks(case, i, prediction, sample)
    checks |= map_checks(case, whole)
    checks |= _training_checks(case, ours.training)
    checks |= _fact_checks(case, ours)
    published = case.arrays | case.facts
    published["final_masks_pasted"] = published.get("final_masks_rle")  # looked at in two ways
    return compare(published, checks)


def _proposal_checks(case: Case, i: int, ours: Prediction) -> dict[str, Check]:
    found = ours.proposals
    rows = case.like(f"im{i}_box_pooled_rows", np.arange(3))
    return {
        "made_pool_level": exact(found["made_pool_level"]),
        f"im{i}_proposal_boxes": within(found["boxes"], BOX_TOLERANCE, "px"),
        f"im{i}_proposal_logits": dense(found["logits"], DENSE),
        f"im{i}_proposal_pool_level": exact(found["pool_level"]),
        f"im{i}_box_pooled_rows": described,
        f"im{i}_box_pooled": dense(found["pooled"][rows], DENSE),
        f"im{i}_made_pooled": dense(found["made_pooled"], DENSE),
        f"im{i}_made_cls_score": dense(found["made_cls_score"], DENSE),
        f"im{i}_made_delta": dense(found["made_bbox_delta"], DENSE),
        f"im{i}_box_feat_every20": dense(found["box_feat"][::20], DENSE),
        f"im{i}_cls_score": dense(found["cls_score"], DENSE),
        f"im{i}_bbox_delta_every8": dense(found["bbox_delta"][::8], DENSE),
    }


def _point_checks(case: Case, i: int, ours: Prediction) -> dict[str, Check]:
    """The point head at the published cells, and which cells follow from the published logits."""
    checks: dict[str, Check] = {
        f"det{i}_{name}": dense(value, DENSE) for name, value in ours.points.items()
    }
    for size, masks, cells, gaps in rendered(case, i, ours):
        stored = case.like(f"det{i}_mask_logits_{size}_first{FIRST_MASKS[size]}", masks[:0])
        checks |= {
            f"det{i}_point_index_{size}": cells,
            f"det{i}_point_gap_{size}": dense(gaps, LOSS),
            f"det{i}_mask_logits_{size}_first{FIRST_MASKS[size]}": dense(
                masks[: len(stored)] if len(stored) else masks[: FIRST_MASKS[size]], LOSS
            ),
        }
    bits = np.packbits(masks.reshape(len(masks), -1) > 0, axis=1)
    return checks | {
        f"det{i}_mask224_packed": exact(bits),
        f"det{i}_mask224_logit_mean": dense(masks.mean((1, 2), dtype=np.float64), LOSS),
    }


#: Of how many detections the masks are stored at a resolution.
FIRST_MASKS = {56: 12, 112: 4, 224: 2}


def rendered(
    case: Case, i: int, ours: Prediction
) -> list[tuple[int, NDArray[np.float32], Check, NDArray[np.float32]]]:
    """Masks of the published logits at the published cells, by resolution.

    Returns:
        Resolution, masks N×S×S, whether these cells are the least certain ones, and the logits on
        either side of the choice (N×2).
    """
    logits = {
        size: torch.from_numpy(case.like(f"det{i}_point_logits_{size}", own))
        for size in (FIRST, *REFINED)
        for own in (ours.points[f"point_logits_{size}"],)
    }
    masks = logits[FIRST].unflatten(1, (FIRST, FIRST))
    found = []
    for size in REFINED:
        coarser = F.interpolate(masks[:, None], (size, size), mode="bilinear").flatten(1)
        count = logits[size].shape[1]
        ordered = least_certain(coarser, count + 1)
        gaps = coarser.gather(1, ordered[:, -2:]).abs()
        own = ordered[:, :count].numpy()
        stored = case.like(f"det{i}_point_index_{size}", own.astype(np.int32)).astype(np.int64)
        cells = torch.from_numpy(stored.clip(0, size**2 - 1))
        masks = coarser.scatter(1, cells, logits[size]).unflatten(1, (size, size))
        check = _same_choice(own, coarser.abs().numpy(), gaps.numpy())
        found.append((size, masks.numpy(), check, gaps.numpy()))
    return found


def _same_choice(ours: NDArray[Any], magnitudes: NDArray[Any], gaps: NDArray[Any]) -> Check:
    """Equal sets in each row, but for cells that are as certain as the last one chosen."""

    def check(name: str, published: Any) -> Comparison:
        if np.shape(published) != ours.shape:
            return failed(name, f"ours is {ours.shape}", np.shape(published))
        different = 0
        for own, theirs, size, gap in zip(ours, published, magnitudes, gaps, strict=True):
            odd = np.setxor1d(own, theirs)
            inside = odd[(odd >= 0) & (odd < len(size))]
            near = np.abs(size[inside] - gap.mean()) <= UNDECIDED * size.max()
            different += len(odd) - int(near.sum()) + len(theirs) - len(np.unique(theirs))
        return Comparison(name, ours.shape, different, 0, "different")

    return check


def _detection_checks(case: Case, i: int, ours: Prediction, sample: Sample) -> dict[str, Check]:
    found, final = ours.detections, ours.instances
    rows = published_rows(case, f"final{i}", final)
    index = match(found | {"boxes": in_image(found["boxes"], sample)}, final)[rows]
    checks: dict[str, Check] = {
        f"det{i}_boxes": within(found["boxes"], BOX_TOLERANCE, "px"),
        f"det{i}_scores": ranked(found["scores"], np.arange(len(found["scores"]))),
        f"det{i}_classes": exact(found["classes"]),
        f"det{i}_proposal": exact(found["proposal"]),
        f"det{i}_coarse_pooled_first1": dense(found["coarse_pooled"][:1], DENSE),
        f"det{i}_coarse_logits": dense(found["coarse_logits"], DENSE),
        f"final{i}_boxes": within(final["boxes"][rows], BOX_TOLERANCE, "px"),
        f"final{i}_scores": ranked(final["scores"], rows),
        f"final{i}_classes": exact(final["classes"][rows]),
        f"final{i}_det_index": exact(index),
    }
    masks = torch.from_numpy(rendered(case, i, ours)[-1][1]).sigmoid().numpy()
    checks |= mask_checks(case, i, final, masks, sample, index, rows)
    return checks | _summary_checks(case, i, ours)


def mask_checks(
    case: Case,
    i: int,
    final: dict[str, NDArray[Any]],
    rois: NDArray[np.float32],
    sample: Sample,
    index: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> dict[str, Check]:
    """Bitmaps end to end, published RoI masks pasted by us, and areas.

    Args:
        rois: published masks of the detections, in their boxes.
        index: the published detection of each published instance.
        rows: our row of each published instance.
    """
    masks = final["masks"][rows]
    names = [f"final_masks_rle[{i}]", f"final_masks_pasted[{i}]"]
    area = f"final{i}_mask_area"
    stored = case.like(f"final{i}_det_index", index)
    try:
        published = read_masks(
            case.facts["final_masks_rle"][i],
            rois[np.where((stored >= 0) & (stored < len(rois)), stored, index)],
            case.like(f"final{i}_boxes", final["boxes"][rows]),
            sample.original_size,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        why = f"no masks ({error})"
        unreadable: Check = lambda name, _: failed(name, why)  # noqa: E731
        return dict.fromkeys(names, unreadable) | {area: exact(masks.sum((1, 2)))}
    return {
        names[0]: lambda name, _: published.compare(name, masks),
        names[1]: lambda name, _: published.compare_pasted(name),
        area: exact(published.bitmaps.sum((1, 2))),
    }


def _summary_checks(case: Case, i: int, ours: Prediction) -> dict[str, Check]:
    """Counted again in the published arrays, which are compared themselves."""
    found, proposals = ours.detections, ours.proposals
    levels = case.like(f"im{i}_proposal_pool_level", proposals["pool_level"])
    logits = torch.from_numpy(case.like(f"im{i}_cls_score", proposals["cls_score"]))
    scores = case.like(f"det{i}_scores", found["scores"])
    checks = {
        "n_proposals": exact(len(proposals["boxes"])),
        "proposals_per_pool_level_2_to_5": exact([int((levels == k).sum()) for k in range(2, 6)]),
        "candidates_over_0.05": exact(int((logits.softmax(1)[:, :-1] > THRESHOLD).sum())),
        "n_det": exact(len(found["boxes"])),
        "n_final": exact(len(ours.instances["boxes"])),
        "score_max": dense(scores.max(), ROUNDING) if len(scores) else described,
        "score_min": dense(scores.min(), ROUNDING) if len(scores) else described,
        "classes": exact(np.unique(case.like(f"det{i}_classes", found["classes"]))),
    }
    return {f"detections_summary[{i}].{name}": check for name, check in checks.items()}


#: What was drawn at random: it is given to our model, whose values differ if it is wrong.
GIVEN = ("points_oversampled", "points_random")


def _training_checks(case: Case, ours: PointRendTraining) -> dict[str, Check]:
    checks: dict[str, Check] = {f"train_{name}": described for name in GIVEN}
    for i, found in enumerate(ours.images):
        for name, value in found.items():
            checks[f"train_{name}_{i}"] = exact(value)
        checks[f"train_proposal_boxes_{i}"] = within(found["proposal_boxes"], BOX_TOLERANCE, "px")
        checks[f"train_proposal_logits_{i}"] = dense(found["proposal_logits"], DENSE)
        checks[f"train_rpn_pos_sampled_{i}"] = _labelled(found["rpn_label"], 1)
        checks[f"train_rpn_neg_sampled_{i}"] = _labelled(found["rpn_label"], 0)
        checks[f"train_roi_sampled_{i}"] = distinct(len(found["roi_label"]))
    for name, value in ours.rois.items():
        checks[f"train_{name}"] = dense(value, DENSE) if value.dtype.kind == "f" else exact(value)
    for name in ("roi_boxes", "mask_boxes"):
        checks[f"train_{name}"] = within(ours.rois[name], BOX_TOLERANCE, "px")
    for name in ("point_logits_gtclass", "point_logits_first1_allcls"):
        checks[f"train_{name}"] = dense(ours.rois[name], POINT)
    checks |= _choice_of_points(case, ours)
    for name, loss in ours.losses.items():
        checks[f"train_losses.{name}"] = dense(loss, LOSS)
    return checks | {
        "train_total": dense(sum(ours.losses.values()), LOSS),
        "train_input_shape": exact(ours.input_shape),
        "grad_norms": each(ours.gradients, GRADIENT),
        "no_grad_params": exact(ours.without_gradient),
    }


def _labelled(labels: NDArray[Any], wanted: int) -> Check:
    """Rows of anchors with a label."""

    def check(name: str, published: Any) -> Comparison:
        different = int((labels[np.asarray(published)] != wanted).sum())
        return Comparison(name, np.shape(published), different, 0, "different")

    return check


def distinct(count: int) -> Check:
    """Different rows of so many."""

    def check(name: str, published: Any) -> Comparison:
        rows = np.asarray(published)
        wrong = len(rows) - len(np.unique(rows[(rows >= 0) & (rows < count)]))
        return Comparison(name, rows.shape, wrong, 0, "different")

    return check


def _choice_of_points(case: Case, ours: PointRendTraining) -> dict[str, Check]:
    """The least certain points, chosen again by the published coarse logits."""
    chosen = ours.rois["points_selected"]
    drawn = torch.from_numpy(case.arrays["train_points_oversampled"])
    coarse = case.like("train_coarse_logits", ours.rois["coarse_logits"])
    classes = case.like("train_mask_classes", ours.rois["mask_classes"]).astype(np.int64)
    own = torch.from_numpy(coarse[np.arange(len(classes)), classes])
    logits = map_points(own[:, None], drawn)[..., 0]
    ordered = least_certain(logits, chosen.shape[1] + 1)
    gaps = logits.gather(1, ordered[:, -2:]).abs().numpy()
    again = ordered[:, :-1].numpy()
    magnitudes = logits.abs().numpy()
    return {
        "train_points_gap": dense(gaps, LOSS),
        "train_points_selected": lambda name, published: max(
            (_same_choice(rows, magnitudes, gaps)(name, published) for rows in (again, chosen)),
            key=lambda comparison: comparison.error,
        ),
    }


def _fact_checks(case: Case, ours: Outputs) -> dict[str, Check]:
    images = [prediction.images for prediction in ours.predictions]
    checks: dict[str, Check] = {
        "weights_crc32": exact(ours.weights),
        "seed": exact(case.seed),
        "subdivision.init_resolution": exact(FIRST),
        "subdivision.steps": exact(len(REFINED)),
        "subdivision.num_points": exact(FIRST**2),
        "mask_sides": exact([FIRST, *REFINED]),
        "input_shape": exact([image.shape for image in images]),
        "input_sum": dense([image.sum(dtype=np.float64) for image in images], TARGET),
        "versions": described,
        "train_summary.torch_manual_seed_before_training": described,
    }
    summary = _train_summary(case, ours)
    return checks | {f"train_summary.{name}": check for name, check in summary.items()}


def _train_summary(case: Case, ours: Outputs) -> dict[str, Check]:
    rois = ours.training.rois
    checks: dict[str, Check] = {}
    labels = case.like("train_point_labels", rois["point_labels"])
    background = ours.predictions[0].proposals["cls_score"].shape[1] - 1
    for i, found in enumerate(ours.training.images):
        sampled = case.arrays[f"train_roi_sampled_{i}"]
        objects = int((found["roi_label"] < background).sum())
        taken = int((found["roi_label"][sampled] < background).sum())
        counts = {
            "rpn_pos": len(found["rpn_pos_all"]),
            "rpn_sampled_pos": len(case.arrays[f"train_rpn_pos_sampled_{i}"]),
            "rpn_sampled_neg": len(case.arrays[f"train_rpn_neg_sampled_{i}"]),
            "n_proposals": len(found["proposal_boxes"]),
            "roi_candidates": len(found["roi_label"]),
            "roi_fg_candidates": objects,
            "roi_sampled_fg": taken,
            "roi_sampled_bg": len(sampled) - taken,
        }
        checks |= {f"per_image[{i}].{name}": exact(count) for name, count in counts.items()}
    boxes = case.like("train_mask_boxes", rois["mask_boxes"])
    outside = (boxes < 0).any(1)  # beyond the left or the upper edge
    fractional = ((labels > 0) & (labels < 1)).mean()
    return checks | {
        "n_mask_rois": exact(len(rois["mask_boxes"])),
        "point_label_fractional": dense(fractional, ROUNDING),
        "point_label_mean": dense(labels.mean(), ROUNDING),
        "coarse_target_mean": dense(rois["coarse_targets"].mean(), ROUNDING),
        "mask_boxes_outside_image": exact(int(outside.sum())),
    }
