"""CondInst: which published value is compared with what, and how close the two must be.

Inputs and tolerances are BlendMask's. Inference is of one image at a time, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.models import BasisSegmenter
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.weights.adelaidet import ADELAIDET
from reference.blendmask import LOSS, TARGET, map_checks, training_checks
from reference.blendmask_detections import DENSE
from reference.blendmask_inputs import Sample, compare_inputs, read_samples
from reference.comparison import (
    Check,
    Comparison,
    compare,
    dense,
    described,
    each,
    exact,
)
from reference.condinst_detections import detection_checks
from reference.condinst_outputs import Prediction, predict
from reference.condinst_training import CondInstTraining, losses, train
from reference.fixtures import Case, read_spec
from reference.reference_weights import checksum, make_weights

#: How many positives an image the published variants train, and what their arrays are called.
BEST = {"topk64": 64, "topk24": 24}


@dataclass
class Outputs:
    """Everything that is compared, as our model computes it."""

    weights: str  #: checksum
    semantic_weights: str  #: of the variant with the semantic loss
    shapes: list[tuple[int, int]]  #: (out, in) of the dynamic layers
    predictions: list[Prediction]
    training: CondInstTraining
    semantic_losses: dict[str, float]


def verify(case: Case, tell: Callable[[str], None]) -> list[Comparison]:
    """Compare a case; where the inputs contradict each other, only them.

    Args:
        tell: is called with what is done next.

    Raises:
        VerificationError: fixtures that cannot be read.
        b2inst.weights.WeightsError: the spec is not that of a CondInst.
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
    other, _, semantic_weights = _model(case, "_sem")
    model, names, weights = _model(case, "")
    assert isinstance(model.assembler, DynamicMaskHead)
    tell("predicting")
    predictions = predict(model, samples)
    tell("one step of training")
    training = train(model, samples, names)
    tell("one step of training with the semantic loss")
    return Outputs(
        weights=weights,
        semantic_weights=semantic_weights,
        shapes=model.assembler.shapes,
        predictions=predictions,
        training=training,
        semantic_losses=losses(other, samples),
    )


def compare_outputs(case: Case, samples: list[Sample], ours: Outputs) -> list[Comparison]:
    """Every array and every fact of the case."""
    checks: dict[str, Check] = {}
    whole: dict[str, NDArray[Any]] = {}
    for i, (sample, prediction) in enumerate(zip(samples, ours.predictions, strict=True)):
        maps = {"input": prediction.images} | prediction.maps
        whole |= {f"im{i}_{name}": values for name, values in maps.items()}
        checks |= detection_checks(case, i, prediction, sample)
    checks |= map_checks(case, whole)
    checks |= training_checks(ours.training.fcos)
    checks |= _mask_training_checks(ours.training)
    checks |= _variant_checks(case, ours)
    checks |= _fact_checks(case, ours)
    published = case.arrays | case.facts
    published["final_masks_of_logits"] = published.get("final_masks_rle")  # looked at in two ways
    return compare(published, checks)


def _model(case: Case, variant: str) -> tuple[BasisSegmenter, Mapping[str, str], str]:
    """The model of the case's spec or of a variant of it, our names, and the weights' checksum."""
    source = case.spec_source
    source = source.with_name(source.name.replace("_spec", f"{variant}_spec"))
    weights = make_weights(read_spec(source), case.seed, source)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    return (
        ADELAIDET.load(tensors, source=str(source)),
        ADELAIDET.own_names(tensors),
        checksum(weights),
    )


def _mask_training_checks(ours: CondInstTraining) -> dict[str, Check]:
    tolerance = {"pos_dice_loss": LOSS, "pos_params": DENSE, "mask_feats": DENSE}
    tolerance["pos_mask_logits_s4_first4"] = DENSE
    checks: dict[str, Check] = {
        f"train_{name}": dense(value, tolerance.get(name, TARGET))
        if value.dtype.kind == "f"
        else exact(value)
        for name, value in ours.mask_arrays.items()
    }
    for name, value in ours.fcos.statistics.items():
        checks[f"train_bn_running_{name}"] = dense(value, LOSS)
    return checks | {
        "train_input_shape": exact(ours.input_shape),
        "num_pos_polygon": exact(ours.polygon_positives),
        "polygon_full_bitmaps_equal": exact(ours.polygons_are_bitmaps),
    }


def _variant_checks(case: Case, ours: Outputs) -> dict[str, Check]:
    """Losses where not all positives train a mask, and with the semantic loss."""
    flat = ours.training.fcos.targets["pos_inds"]
    rows = {name: ours.training.rows_of_best(count) for name, count in BEST.items()}
    # Drawn at random: which they were is given.
    drawn = case.arrays.get("variant_max40_used_pos_inds", flat[:0])
    rows["max40"] = np.flatnonzero(np.isin(flat, drawn))
    checks: dict[str, Check] = {"variant_max40_random.note": described}
    for name, chosen in rows.items():
        facts = "variant_max40_random" if name == "max40" else f"variant_{name}_per_im"
        checks[f"variant_{name}_used_pos_inds"] = _same_set(flat[chosen])
        checks[f"{facts}.n_used"] = exact(len(chosen))
        mask = {"loss_mask": ours.training.mask_loss(chosen)}
        checks[f"{facts}.losses"] = each(ours.training.fcos.losses | mask, LOSS)
    return checks | {
        "variant_sem_weights_crc32": exact(ours.semantic_weights),
        "variant_semantic_loss": each(ours.semantic_losses, LOSS),
    }


def _same_set(ours: NDArray[np.int64]) -> Check:
    """Equal numbers in whatever order."""
    return lambda name, published: exact(np.sort(ours))(name, np.sort(published, axis=None))


def _fact_checks(case: Case, ours: Outputs) -> dict[str, Check]:
    images = [prediction.images for prediction in ours.predictions]
    return {
        "weights_crc32": exact(ours.weights),
        "seed": exact(case.seed),
        "input_shape": exact([image.shape for image in images]),
        "input_sum": dense([image.sum(dtype=np.float64) for image in images], TARGET),
        "weight_nums": exact([out * wide_in for out, wide_in in ours.shapes]),
        "bias_nums": exact([out for out, _ in ours.shapes]),
        "num_gen_params": exact(sum(out * (wide_in + 1) for out, wide_in in ours.shapes)),
    }
