"""YOLACT: which published value is compared with what, and how close the two must be.

Names are those of the fixtures: an array's in the ``.npz``, a number's path in the ``.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.modules.preprocessor import SquarePreprocessor
from b2inst.ops.masks import decode_rle
from b2inst.weights.yolact import YOLACT
from reference.blendmask import DENSE, GRADIENT, LOSS, TARGET
from reference.blendmask_outputs import Arrays
from reference.comparison import (
    Check,
    Comparison,
    compare,
    dense,
    each,
    exact,
    failed,
    within,
)
from reference.final_masks import TOLERANCE
from reference.fixtures import Case
from reference.matching import BOX_TOLERANCE, SCORE_TOLERANCE, match
from reference.reference_weights import checksum, make_weights
from reference.yolact_inputs import Sample, compare_inputs, other_input, read_samples
from reference.yolact_outputs import Predictions, predict
from reference.yolact_training import Training, train

#: A prior is a candidate where a class is more probable than this; at less than this from it the
#: last bits decide.
THRESHOLD = 0.05
UNDECIDED = 1e-6

#: Every few cells of these maps are stored.
STEPS = {"C3": 4, "C4": 2, "C5": 2, "P3": 4, "P4": 2, "P5": 1, "P6": 1, "P7": 1}

#: The published names of what only some positives train.
_FEW = "frozen_bn_cap30"


@dataclass
class Outputs:
    """Everything that is compared, as our model computes it."""

    weights: str  #: checksum
    predictions: Predictions
    training: Training
    apart: list[float]  #: largest difference of the two ways to resize each image


def verify(case: Case, tell: Callable[[str], None]) -> list[Comparison]:
    """Compare a case; where the inputs contradict each other, only them.

    Args:
        tell: is called with what is done next.

    Raises:
        VerificationError: fixtures that cannot be read.
        b2inst.weights.WeightsError: the spec is not that of a YOLACT.
    """
    tell("making the weights")
    weights = make_weights(case.spec, case.seed, case.spec_source)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    model = YOLACT.load(tensors, source=str(case.spec_source))
    assert isinstance(model.preprocessor, SquarePreprocessor)
    samples = read_samples(case)
    inputs = compare_inputs(case, samples, model.preprocessor)
    if not all(comparison.passed for comparison in inputs):
        tell("the inputs contradict each other; the model is not run")
        return inputs
    tell("predicting")
    predictions = predict(model, samples)
    apart = [
        float(np.abs(pixels - other_input(sample, model.preprocessor)).max())
        for pixels, sample in zip(predictions.images, samples, strict=True)
    ]
    tell("a step of training with fixed batch norm, and one without")
    training = train(model, samples, YOLACT.own_names(tensors), _ranks(case, samples))
    ours = Outputs(checksum(weights), predictions, training, apart)
    return inputs + compare_outputs(case, samples, ours)


def compare_outputs(case: Case, samples: list[Sample], ours: Outputs) -> list[Comparison]:
    """Every array and every fact of the case."""
    checks = _map_checks(ours.predictions) | _training_checks(ours.training, samples)
    checks |= _fact_checks(case, ours)
    for i, sample in enumerate(samples):
        checks |= _candidate_checks(case, i, ours.predictions)
        for kind, codes in (("det", "final_masks_rle"), ("cc", "cross_class_final_masks_rle")):
            found = ours.predictions.detections[kind][i]
            checks |= _detection_checks(case, f"{kind}{i}", found, sample, f"{codes}[{i}]")
        checks |= _summary_checks(case, i, ours.predictions)
    return compare(case.arrays | case.facts, checks)


def _map_checks(ours: Predictions) -> dict[str, Check]:
    checks: dict[str, Check] = {
        f"{name}_s{step}" if step > 1 else name: dense(ours.maps[name][:, :, ::step, ::step], DENSE)
        for name, step in STEPS.items()
    }
    return checks | {
        "proto": dense(ours.maps["proto"].transpose(0, 2, 3, 1), DENSE),
        "priors": dense(ours.priors["priors"], TARGET),
        "loc": dense(ours.priors["loc"], DENSE),
        "mask_coef": dense(ours.priors["mask_coef"], DENSE),
        "conf_logits_every5": dense(ours.priors["conf_logits"][:, ::5], DENSE),
        "conf_softmax_max_fg": dense(_probabilities(ours)[:, :, 1:].max(2), DENSE),
    }


def _candidate_checks(case: Case, image: int, ours: Predictions) -> dict[str, Check]:
    probabilities = _probabilities(ours)[image]
    best = probabilities[:, 1:].max(1)
    published = np.isin(np.arange(len(best)), case.arrays.get(f"kept{image}_prior_idx", ()))
    undecided = np.abs(best - THRESHOLD) < UNDECIDED
    kept = np.flatnonzero(np.where(undecided, published, best > THRESHOLD))
    return {
        f"kept{image}_prior_idx": exact(kept),
        f"kept{image}_conf_softmax": dense(probabilities[kept], DENSE),
    }


def _detection_checks(
    case: Case, prefix: str, ours: Arrays, sample: Sample, codes: str
) -> dict[str, Check]:
    """One to one with the published detections; those are nowhere below the others in score."""
    side = sample.targets.masks.shape[-1]
    published = {name: case.like(f"{prefix}_{name}", ours[name]) for name in _MATCHED}
    rows = match(_in_pixels(ours, side), _in_pixels(published, side))
    checks: dict[str, Check] = {
        f"{prefix}_boxes": within(ours["boxes"][rows], BOX_TOLERANCE / side, "of the image"),
        f"{prefix}_scores": within(ours["scores"][rows], SCORE_TOLERANCE, ""),
        f"{prefix}_classes": exact(ours["classes"][rows]),
        f"{prefix}_coef": dense(ours["coef"][rows], DENSE),
        f"{prefix}_final_int_boxes": exact(ours["final_int_boxes"][rows]),
        codes: _masks(ours["masks"][rows]),
    }
    if prefix.startswith("det"):
        first = ours["lowres_masks"][rows[:5]]
        checks[f"{prefix}_lowres_masks_first5_cropped"] = dense(first, DENSE)
    list_name, index = codes.removesuffix("]").split("[")
    try:
        bitmaps = decode_rle(case.facts[list_name][int(index)], sample.original_size).numpy()
    except (KeyError, IndexError, TypeError, ValueError):
        bitmaps = ours["masks"][rows]
    checks[f"{prefix}_mask_area"] = exact(bitmaps.sum((1, 2)))
    return checks


_MATCHED = ("boxes", "scores", "classes")


def _in_pixels(found: Arrays, side: int) -> Arrays:
    return {name: found[name] for name in _MATCHED} | {"boxes": found["boxes"] * side}


def _masks(ours: NDArray[np.bool_]) -> Check:
    """One minus the smallest IoU of the pairs; two empty masks are equal."""

    def check(name: str, published: Any) -> Comparison:
        try:
            bitmaps = decode_rle(published, ours.shape[1:]).numpy()
        except (KeyError, TypeError, ValueError) as error:
            return failed(name, f"no masks ({error})")
        if bitmaps.shape != ours.shape:
            return failed(name, f"ours are {len(ours)} masks", bitmaps.shape)
        apart = np.count_nonzero(ours ^ bitmaps, (1, 2))
        union = np.count_nonzero(ours | bitmaps, (1, 2))
        furthest = float((apart / np.maximum(union, 1)).max(initial=0))
        return Comparison(name, bitmaps.shape, furthest, TOLERANCE, "1 - IoU")

    return check


def _summary_checks(case: Case, image: int, ours: Predictions) -> dict[str, Check]:
    """The summary of an image's detections, counted again in the published arrays.

    Those are compared themselves; a count among almost equal numbers would not be as sharp.
    """
    found = ours.detections["det"][image]
    scores = case.like(f"det{image}_scores", found["scores"])
    best = case.like("conf_softmax_max_fg", _probabilities(ours)[:, :, 1:].max(2))[image]
    areas = case.like(f"det{image}_mask_area", found["masks"].sum((1, 2)))
    boxes = case.like(f"det{image}_final_int_boxes", found["final_int_boxes"])
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    checks: dict[str, Check] = {
        "n": exact(len(found["scores"])),
        "priors_kept_over_0_05": exact(int((best > THRESHOLD).sum())),
        "closest_to_thr": within(float(np.abs(best - THRESHOLD).min()), 2e-8, ""),
        "min_score_gap": within(_smallest_gap(scores), 2e-8, ""),
        "n_classes": exact(len(np.unique(case.like(f"det{image}_classes", found["classes"])))),
        "score_max": dense(scores.max(initial=0), TARGET),
        "score_min": dense(scores.min(initial=1), TARGET),
        "empty_masks": exact(int((areas == 0).sum())),
        "degenerate_int_boxes": exact(int(flat.sum())),
    }
    return {f"detect[{image}].{name}": check for name, check in checks.items()}


def _training_checks(ours: Training, samples: list[Sample]) -> dict[str, Check]:
    checks: dict[str, Check] = {
        "train_segm_logits_s3": dense(ours.semantic_logits[:, :, ::3, ::3].numpy(), DENSE)
    }
    for i, target in enumerate(ours.targets):
        checks[f"train_conf_t_{i}"] = exact(target["conf_t"])
        checks[f"train_idx_t_pos_{i}"] = exact(target["idx_t_pos"])
        # Not TARGET: our boxes are pixels in single precision, and their offsets ten times as far.
        checks[f"train_loc_t_pos_{i}"] = dense(target["loc_t_pos"], LOSS)
    few = ours.losses | {"M": ours.few_masks_loss}
    for name, losses in (
        ("frozen_bn_nocap", ours.losses),
        (_FEW, few),
        ("batch_bn_nocap", ours.batch_losses),
    ):
        for key, loss in losses.items():
            checks[f"train.{name}.losses.{key}"] = dense(loss, LOSS)
        checks[f"train.{name}.total"] = dense(sum(losses.values()), LOSS)
    masks = [sample.targets.masks.numpy() for sample in samples]
    counts = [len(target["idx_t_pos"]) for target in ours.targets]
    return checks | {
        "train.frozen_bn_nocap.grad_norms": each(ours.gradients, GRADIENT),
        f"train.{_FEW}.selected_positive_ranks": _ranks_of(
            [len(t["idx_t_pos"]) for t in ours.targets]
        ),
        "train_num_pos": exact(counts),
        "train_num_neutral": exact([int((t["conf_t"] < 0).sum()) for t in ours.targets]),
        "gt_mask_unique_values": exact([np.unique(own) for own in masks]),
        "gt_mask_dtype": exact([str(own.dtype) for own in masks]),
    }


def _fact_checks(case: Case, ours: Outputs) -> dict[str, Check]:
    images = ours.predictions.images
    return {
        "weights_crc32": exact(ours.weights),
        "seed": exact(case.seed),
        "input_shape": exact(images.shape),
        "input_sum": dense(images.sum(dtype=np.float64), TARGET),
        "prior_counts": exact(ours.predictions.prior_counts),
        "train_input_equals_test_input": exact(True),
        "max_abs_diff_cv2_vs_fastbase_input": within(ours.apart, 1e-5, ""),
    }


def _ranks(case: Case, samples: list[Sample]) -> list[list[int]]:
    """Which positives train a mask where not all do; drawn at random, so the fixtures say."""
    ranks = case.facts.get("train", {}).get(_FEW, {}).get("selected_positive_ranks")
    if not isinstance(ranks, list) or len(ranks) != len(samples):
        return [[0] for _ in samples]
    return [[int(rank) for rank in own] for own in ranks]


def _ranks_of(counts: list[int]) -> Check:
    """Different numbers of positives of each image, of which there are so many."""

    def check(name: str, published: Any) -> Comparison:
        wrong = sum(
            len(own) - len(set(own) & set(range(count)))
            for own, count in zip(published, counts, strict=True)
        )
        return Comparison(name, (len(counts),), wrong, 0, "no positives")

    return check


def _probabilities(ours: Predictions) -> NDArray[np.float32]:
    """B×S×(1+C)."""
    logits = torch.from_numpy(ours.priors["conf_logits"])
    return np.asarray(logits.softmax(2).numpy(), np.float32)


def _smallest_gap(scores: NDArray[Any]) -> float:
    return float(np.diff(np.sort(scores)).min()) if len(scores) > 1 else 0.0
