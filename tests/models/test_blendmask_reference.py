"""BlendMask number for number against arrays of the published implementation.

The folder that B2INST_REFERENCE names holds inputs, deterministic weights and what AdelaiDet's
BlendMask computes from them, forwards, backwards and after post-processing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from b2inst.models import BasisSegmenter
from b2inst.modules.fcos_head import DenseOutputs, FCOSHead
from b2inst.modules.fcos_targets import assign
from b2inst.ops.masks import decode_rle, paste_masks, paste_window
from b2inst.structures import Bases, Detections, Features, ImageBatch, Instances, Targets

pytestmark = [
    pytest.mark.skipif("B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set"),
    pytest.mark.xdist_group("reference"),  # the fixtures below are computed once
]

LOSSES = {
    "loss_class": "loss_fcos_cls",
    "loss_box": "loss_fcos_loc",
    "loss_centerness": "loss_fcos_ctr",
    "loss_mask": "loss_mask",
    "loss_semantic": "loss_basis_sem",
}


@dataclass
class Case:
    """A published model, and what ours computes with its weights from its inputs."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    model: BasisSegmenter
    seen: dict[str, Any]  # what the parts got and gave during predict
    instances: list[Instances]

    @property
    def detections(self) -> list[Detections]:
        detections: list[Detections] = self.seen["detections"]
        return detections


def facts(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (Path(os.environ["B2INST_REFERENCE"]) / f"{name}.json").read_text()
    )
    return content


def load(name: str) -> dict[str, NDArray[Any]]:
    with np.load(Path(os.environ["B2INST_REFERENCE"]) / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def inputs() -> dict[str, NDArray[Any]]:
    return load("blendmask_inputs")


def rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(bgr[:, :, ::-1])


def predict(model: BasisSegmenter, name: str, inputs: dict[str, NDArray[Any]]) -> Case:
    model.eval()
    head = model.instance_head
    assert isinstance(head, FCOSHead)
    seen: dict[str, Any] = {}
    hooks = [
        part.register_forward_hook(
            lambda _, given, made, n=name: seen.update({n: made, f"{n}_input": given[0]})
        )
        for name, part in model.named_children()
    ]
    detect, assemble = head.detect, model.assembler.assemble
    head.detect = lambda o: seen.setdefault("detections", detect(o))  # type: ignore[method-assign]
    model.assembler.assemble = lambda *a: seen.setdefault("masks", assemble(*a))  # type: ignore[method-assign]
    instances = model.predict([rgb(inputs[f"orig_bgr_{i}"]) for i in (0, 1)])
    for hook in hooks:
        hook.remove()
    del head.detect, model.assembler.assemble
    return Case(load(name), facts(name), model, seen, instances)


@pytest.fixture(scope="module", params=[14, 7], ids=["attention14", "attention7"])
def case(
    request: pytest.FixtureRequest,
    published_blendmask: Callable[[int], BasisSegmenter],
    inputs: dict[str, NDArray[Any]],
) -> Case:
    """Both shipped attention sizes; with 7 the caps before and after NMS are reached as well."""
    model = published_blendmask(request.param)
    return predict(model, f"blendmask_attn{request.param}_seed0", inputs)


def close(ours: Tensor, published: NDArray[Any], tolerance: float = 1e-4) -> None:
    assert ours.shape == published.shape
    error = np.abs(ours.numpy() - published).max() / np.abs(published).max()
    assert error <= tolerance


def test_images_are_resized_and_normalised_alike(
    case: Case, inputs: dict[str, NDArray[Any]]
) -> None:
    for i, image in enumerate(case.seen["preprocessor_input"]):
        assert np.array_equal(image.permute(1, 2, 0), rgb(inputs[f"resized_bgr_{i}"]))
    batch: ImageBatch = case.seen["preprocessor"]
    assert list(batch.images.shape) == case.facts["input_shape"]
    assert np.array_equal(batch.images[:, :, ::8, ::8], case.arrays["input_stride8"])


def test_features_of_the_pyramid(case: Case) -> None:
    features: Features = case.seen["backbone"]
    close(features[8][:, :, ::2, ::2], case.arrays["p3_s2"])
    for stride, name in ((16, "p4"), (32, "p5"), (64, "p6"), (128, "p7")):
        close(features[stride], case.arrays[name])


def test_outputs_of_the_head_at_every_position(case: Case) -> None:
    outputs: DenseOutputs = case.seen["instance_head"]
    by_level = [case.arrays[f"logits_{level}"].shape[2:] for level in range(3, 8)]
    sizes = [int(np.prod(shape)) for shape in by_level]
    for name, ours in (
        ("logits", outputs.class_logits),
        ("reg", outputs.distances),
        ("ctr", outputs.centerness_logits[..., None]),
    ):
        for level, part, shape in zip(range(3, 8), ours.split(sizes, 1), by_level, strict=True):
            close(part.transpose(1, 2).unflatten(2, shape), case.arrays[f"{name}_{level}"])


def test_attention_maps(case: Case) -> None:
    head = case.model.instance_head
    assert isinstance(head, FCOSHead)
    outputs: DenseOutputs = case.seen["instance_head"]
    for level, step in ((5, 1), (6, 1), (7, 1)):  # the finer levels' are seen in the detections
        with torch.inference_mode():
            dense = head.coefficients(outputs.towers[level - 3])
        close(dense, case.arrays[f"top_{level}_s{step}"])


def test_bases(case: Case) -> None:
    bases: Bases = case.seen["basis_head"]
    close(bases.maps, case.arrays["bases"])


def matching(
    boxes: Tensor, scores: Tensor, labels: Tensor, published: dict[str, NDArray[Any]], prefix: str
) -> NDArray[np.int64]:
    """Our row of each published detection: the same but for an order among almost equal scores."""
    theirs = published[f"{prefix}_boxes"]
    assert len(boxes) == len(theirs)
    distance = np.abs(boxes.numpy()[None] - theirs[:, None]).max(2)
    distance[published[f"{prefix}_classes"][:, None] != labels.numpy()[None]] = np.inf
    rows: NDArray[np.int64] = distance.argmin(1)
    assert sorted(rows.tolist()) == list(range(len(rows)))
    moved = rows != np.arange(len(rows))
    gap = published[f"{prefix}_scores"] - published[f"{prefix}_scores"][rows]
    assert np.abs(gap[moved]).max(initial=0) < 1e-6
    close(scores[rows], published[f"{prefix}_scores"])
    close(boxes[rows], theirs)
    return rows


def test_detections_one_to_one(case: Case) -> None:
    for i, found in enumerate(case.detections):
        rows = matching(found.boxes, found.scores, found.labels, case.arrays, f"det{i}")
        close(found.coefficients[rows], case.arrays[f"det{i}_top_feat"])


def test_masks_in_their_boxes(case: Case) -> None:
    masks = case.seen["masks"].probabilities.split([len(d) for d in case.detections])
    for i, (found, ours) in enumerate(zip(case.detections, masks, strict=True)):
        rows = matching(found.boxes, found.scores, found.labels, case.arrays, f"det{i}")
        close(ours[rows], case.arrays[f"det{i}_masks56"])


def published_masks(case: Case, i: int) -> NDArray[np.bool_]:
    masks: NDArray[np.bool_] = decode_rle(case.facts["final_masks_rle"][i]).numpy()
    return masks


def test_pasting_the_published_masks_gives_the_published_bitmaps(case: Case) -> None:
    """Bit for bit: the box is clipped, the mask was made for the unclipped one, 0.5 is inside."""
    for i in (0, 1):
        soft = torch.from_numpy(case.arrays[f"det{i}_masks56"][case.arrays[f"final{i}_det_index"]])
        boxes = torch.from_numpy(case.arrays[f"final{i}_boxes"])
        expected = published_masks(case, i)
        size = (expected.shape[1], expected.shape[2])
        assert np.array_equal(paste_masks(soft, boxes, size), expected)


def test_final_instances(case: Case) -> None:
    for i, found in enumerate(case.instances):
        rows = matching(found.boxes, found.scores, found.labels, case.arrays, f"final{i}")
        ours, expected = found.masks[rows].numpy(), published_masks(case, i)
        # Beyond the bases a mask is 0.5 and the last bit decides; elsewhere all pixels agree.
        size = (expected.shape[1], expected.shape[2])
        masks56 = case.arrays[f"det{i}_masks56"][case.arrays[f"final{i}_det_index"]]
        for k in (ours != expected).any((1, 2)).nonzero()[0]:
            box = torch.from_numpy(case.arrays[f"final{i}_boxes"][k])
            soft = paste_window(torch.from_numpy(masks56[k]), box, (0, 0, *size)).numpy()
            assert np.abs(soft - 0.5)[ours[k] != expected[k]].max() < 1e-4
        overlap = (ours & expected).sum((1, 2)) / (ours | expected).sum((1, 2))
        assert np.median(overlap) == 1
        assert overlap.min() > 0.98


def targets(inputs: dict[str, NDArray[Any]]) -> list[Targets]:
    result = []
    for i in (0, 1):
        count, height, width = inputs[f"gt_masks_shape_{i}"]
        bits = np.unpackbits(inputs[f"gt_masks_packed_{i}"], axis=1)[:, : height * width]
        result.append(
            Targets(
                image_id=i,
                boxes=torch.from_numpy(inputs[f"gt_boxes_{i}"]),
                labels=torch.from_numpy(inputs[f"gt_classes_{i}"]),
                masks=torch.from_numpy(bits.reshape(count, height, width)),
                semantic=torch.from_numpy(inputs[f"basis_sem_{i}"]),
            )
        )
    return result


def test_training_targets(case: Case, inputs: dict[str, NDArray[Any]]) -> None:
    head = case.model.instance_head
    assert isinstance(head, FCOSHead)
    ours = assign(
        head._points(case.seen["instance_head"]),
        head.strides,
        head.sizes_of_interest,
        targets(inputs),
        num_classes=80,
        radius=head.radius,
    )
    # The published order is level, image, position; ours image, level, position.
    level, image = case.arrays["train_level"], case.arrays["train_im"]
    order = np.lexsort((np.arange(len(level)), level, image))
    assert ours.labels.flatten().tolist() == case.arrays["train_labels"][order].tolist()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    positive = rank[case.arrays["train_pos_inds"]]  # where the published positives are in ours
    first = torch.tensor([0, len(targets(inputs)[0])])[:, None]  # objects are counted through
    index = (ours.target_index + first).flatten()[positive]
    assert index.tolist() == case.arrays["train_pos_gt_inds"].tolist()
    close(ours.distances.flatten(0, 1)[positive], case.arrays["train_pos_reg_targets"], 1e-6)
    close(ours.centerness.flatten()[positive], case.arrays["train_pos_ctr"], 1e-6)


def test_losses_gradients_and_running_statistics(
    published_blendmask: Callable[[int], BasisSegmenter],
    own_name: Callable[[str], str],
    inputs: dict[str, NDArray[Any]],
) -> None:
    model = published_blendmask(14).train()
    arrays, published = load("blendmask_attn14_seed0"), facts("blendmask_attn14_seed0")
    images = [
        torch.from_numpy(rgb(inputs[f"resized_bgr_{i}"])).permute(2, 0, 1).contiguous()
        for i in (0, 1)
    ]
    losses = model(images, targets(inputs))
    expected = {ours: published["train_losses_bitmask"][theirs] for ours, theirs in LOSSES.items()}
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected, rel=1e-5)
    assert sum(losses.values()).item() == pytest.approx(published["train_total"], rel=1e-5)

    norm = model.basis_head.refine[0][1]
    close(norm.running_mean, arrays["train_bn_running_mean_refine0"], 1e-5)
    close(norm.running_var, arrays["train_bn_running_var_refine0"], 1e-5)

    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    without = {name for name, gradient in gradients.items() if gradient is None}
    assert without == {own_name(name) for name in published["no_grad_params"]}
    norms = {name: g.norm().item() for name, g in gradients.items() if g is not None}
    wanted = {own_name(name): value for name, value in published["grad_norms"].items()}
    assert norms == pytest.approx(wanted, rel=1e-3)
