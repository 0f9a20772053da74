"""BlendMask: which published value is compared with what, and how close the two must be.

Names are those of the fixtures: an array's in the ``.npz``, a number's path in the ``.json``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from b2inst.modules.blender import Blender
from b2inst.weights.adelaidet import ADELAIDET
from reference.blendmask_detections import detection_checks
from reference.blendmask_inputs import Sample, compare_inputs, read_samples
from reference.blendmask_outputs import Predictions, predict
from reference.blendmask_training import Training, train
from reference.comparison import Check, Comparison, compare, dense, each, exact
from reference.fixtures import Case
from reference.reference_weights import checksum, make_weights

#: Relative to the largest published magnitude of a map.
DENSE = 1e-4
LOSS = 1e-5
#: Computed from the objects alone, without a network before it.
TARGET = 1e-6
#: Last bits move ReLUs across zero, and gradients in steps with them: with other kernels, and in
#: float64, our own norms differ by up to 6e-4, as much as from the published ones.
GRADIENT = 2e-3

_STEP = re.compile(r"(?P<map>\w+)_s(?:tride)?(?P<step>[1-9]\d*)")


@dataclass
class Outputs:
    """Everything that is compared, as our model computes it."""

    weights: str  #: checksum
    attention_size: int
    predictions: Predictions
    training: Training


def verify(case: Case, tell: Callable[[str], None]) -> list[Comparison]:
    """Compare a case; where the inputs contradict each other, only them.

    Args:
        tell: is called with what is done next.

    Raises:
        VerificationError: fixtures that cannot be read.
        b2inst.weights.WeightsError: the spec is not that of a BlendMask.
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
    model = ADELAIDET.load(tensors, source=str(case.spec_source))
    assert isinstance(model.assembler, Blender)
    tell("predicting")
    predictions = predict(model, samples)
    tell("one step of training")
    training = train(model, samples, ADELAIDET.own_names(tensors))
    return Outputs(checksum(weights), model.assembler.attention_size, predictions, training)


def compare_outputs(case: Case, samples: list[Sample], ours: Outputs) -> list[Comparison]:
    """Every array and every fact of the case."""
    checks = map_checks(case, {"input": ours.predictions.images} | ours.predictions.maps)
    checks |= training_checks(ours.training)
    for name, value in ours.training.statistics.items():
        checks[f"train_bn_running_{name}_refine0"] = dense(value, LOSS)
    checks |= _fact_checks(case, ours)
    for i, sample in enumerate(samples):
        checks |= detection_checks(case, i, ours.predictions, sample)
    published = case.arrays | case.facts
    published["final_masks_pasted"] = published.get("final_masks_rle")  # looked at in two ways
    return compare(published, checks)


def map_checks(case: Case, whole: Mapping[str, NDArray[Any]]) -> dict[str, Check]:
    """Dense maps; of some only every few cells are stored, as the end of their name says."""
    stored = {name: _map_and_step(name) for name in case.arrays}
    absent = whole.keys() - {name for name, _ in stored.values()}
    checks: dict[str, Check] = {}
    for name, (of, step) in (stored | {name: (name, 1) for name in absent}).items():
        if of in whole:
            cells = whole[of][:, :, ::step, ::step]
            checks[name] = exact(cells) if of.endswith("input") else dense(cells, DENSE)
    return checks


def _map_and_step(name: str) -> tuple[str, int]:
    match = _STEP.fullmatch(name)
    return (match["map"], int(match["step"])) if match else (name, 1)


def training_checks(ours: Training) -> dict[str, Check]:
    """What every FCOS model has: targets, losses, gradients; running statistics are not here."""
    checks: dict[str, Check] = {
        f"train_{name}": dense(value, TARGET) if value.dtype.kind == "f" else exact(value)
        for name, value in ours.targets.items()
    }
    for kind, losses in (("bitmask", ours.losses), ("polygon", ours.polygon_losses)):
        for name, loss in losses.items():
            checks[f"train_losses_{kind}.{name}"] = dense(loss, LOSS)
    positive, level = ours.targets["pos_inds"], ours.targets["level"]
    return checks | {
        "train_total": dense(sum(ours.losses.values()), LOSS),
        "grad_norms": each(ours.gradients, GRADIENT),
        "no_grad_params": exact(ours.without_gradient),
        "num_pos": exact(len(positive)),
        "loss_denorm_sum_ctr": dense(ours.normaliser, TARGET),
        "pos_per_level": exact(np.bincount(level[positive], minlength=level.max() + 1)),
        "pos_per_gt": exact(ours.positives_per_object),
    }


def _fact_checks(case: Case, ours: Outputs) -> dict[str, Check]:
    images = ours.predictions.images
    return {
        "weights_crc32": exact(ours.weights),
        "attn_size": exact(ours.attention_size),
        "seed": exact(case.seed),
        "input_shape": exact(images.shape),
        "input_sum": dense(images.sum(dtype=np.float64), TARGET),
    }
