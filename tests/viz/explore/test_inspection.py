from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from b2inst.models import BasisSegmenter
from b2inst.ops.quality import boundary_dice, mask_iou
from b2inst.structures import Bases, Features
from b2inst.viz.explore.inspection import (
    Inspection,
    basis_frame,
    examples,
    inspect_image,
    most_helped,
    paper_exponents,
    ranking_frame,
)
from b2inst.viz.explore.sources import Sample, own_image
from b2inst.viz.qualitative import gated

Build = Callable[..., BasisSegmenter]
FAMILIES = ("blendmask", "yolact", "condinst")


class LastTimes(nn.Module):
    """A basis head whose last map is multiplied."""

    def __init__(self, head: nn.Module, factor: float) -> None:
        super().__init__()
        self.head, self.factor = head, factor

    def forward(self, features: Features) -> Bases:
        bases = self.head(features)
        bases.maps[:, -1] *= self.factor
        return bases


@pytest.mark.parametrize("name", [*(f"b2inst-{f}-tiny" for f in FAMILIES), "gated-blendmask-tiny"])
def test_a_scaled_basis_is_a_model_whose_basis_head_scales_it(
    name: str, build: Build, sample: Sample
) -> None:
    model = build(name)
    view = inspect_image(model, sample)
    count = len(view.instances)
    plain = [view.refine(i, view.as_trained)[0] for i in range(count)]
    assert torch.stack([rated.masks[-1] for rated in plain]).equal(view.instances.masks)
    torch.testing.assert_close(
        torch.stack([rated.iou[-1] for rated in plain]), view.rated.iou, equal_nan=True
    )
    factors = [*view.as_trained[:-1], -2.0]
    found = torch.stack([view.refine(i, factors)[0].masks[-1] for i in range(count)])
    assert not found.equal(view.instances.masks)
    model.basis_head = LastTimes(model.basis_head, -2.0)  # type: ignore[assignment]
    (expected,) = model.predict([sample.image])
    order = torch.cdist(view.instances.boxes, expected.boxes).argmin(1)  # ranked anew
    assert found.equal(expected.masks[order])


def test_quality_is_with_the_object_that_a_mask_overlaps_most(build: Build, sample: Sample) -> None:
    view = inspect_image(build(), sample)
    truths = sample.truth.masks.numpy()
    for mask, k, iou in zip(
        view.instances.masks.numpy(), view.objects, view.rated.iou, strict=True
    ):
        each = [(mask & t).sum() / (mask | t).sum() for t in truths]
        if max(each) == 0:
            assert int(k) == -1
            assert torch.isnan(iou)
        else:
            assert int(k) == int(np.argmax(each))
            assert float(iou) == pytest.approx(max(each))


def test_an_image_of_which_nothing_is_known(build: Build, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "own.png")
    view = inspect_image(build("blendmask-tiny"), own_image(tmp_path / "own.png"))
    assert view.objects.tolist() == [-1] * len(view.instances)
    assert view.rated.iou.isnan().all()
    assert view.rated.text(0) == ""
    assert view.boundary_basis is None
    assert view.basis_names == ["basis 1", "basis 2", "basis 3", "basis 4"]
    assert basis_frame(view, 0)["IoU"].isna().all()


def test_a_supervised_boundary_is_a_basis_only_where_masks_use_it(
    build: Build, sample: Sample
) -> None:
    view = inspect_image(build(boundary={"as_basis": False}, scoring=[]), sample)
    assert view.explanation.boundary is not None
    assert view.boundary_basis is None


def test_extents_are_in_pixels_of_the_image(build: Build, sample: Sample) -> None:
    large = sample.image.repeat(2, 0).repeat(2, 1)
    nothing = replace(sample.truth[torch.zeros(2, dtype=torch.bool)])
    nothing.masks = torch.zeros((0, 96, 128), dtype=torch.bool)
    view = inspect_image(build(), Sample("large", large, nothing))
    assert view.frame == (48, 64)
    assert view.in_image((1.0, 2.0, 3.0, 4.0)) == (2.0, 4.0, 6.0, 8.0)
    assert view.cells(*view.explanation.content) == (0.0, 128.0, 0.0, 96.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_line_a_basis(family: str, build: Build, sample: Sample) -> None:
    view = inspect_image(build(f"b2inst-{family}-tiny"), sample)
    i = next(i for i, k in enumerate(view.objects.tolist()) if k >= 0)
    frame = basis_frame(view, i)
    assert list(frame.index) == view.basis_names
    assert frame["share"].sum() == pytest.approx(1)
    assert ("weight" in frame) == (family != "condinst")
    if family == "blendmask":
        assert frame["weight"].sum() == pytest.approx(1)  # a softmax
    off = view.refine(i, [*view.as_trained[:-1], 0.0])[0].masks[-1]
    truth = sample.truth.masks[view.objects[i]]
    assert frame.loc["boundary", "pixels"] == (off != view.instances.masks[i]).sum()
    assert frame.loc["boundary", "IoU"] == pytest.approx(float(mask_iou(off, truth)))
    assert frame.loc["boundary", "Dice"] == pytest.approx(float(boundary_dice(off, truth)))


def made_true(model: BasisSegmenter, sample: Sample, rows: list[int], moved: int) -> Sample:
    """Some of the predictions, moved to the right, become the objects, so that some are found."""
    found = inspect_image(model, sample).instances
    masks = found.masks[rows].roll(moved, 2)
    return replace(sample, truth=replace(sample.truth, masks=masks, boxes=found.boxes[rows]))


@pytest.mark.parametrize("moved", [0, 2, -2])
@pytest.mark.parametrize("name", ["b2inst-blendmask-tiny", "gated-condinst-tiny"])
def test_the_mask_that_is_helped_most(name: str, moved: int, build: Build, sample: Sample) -> None:
    model = build(name)
    sample = made_true(model, sample, [1, 3], moved)
    view = inspect_image(model, sample)
    if gated(model):
        plain = deepcopy(model)
        plain.assembler.refinement = None  # type: ignore[attr-defined,assignment]
        found = inspect_image(plain, sample).instances
        others = found.masks[torch.cdist(view.instances.boxes, found.boxes).argmin(1)]
    else:
        off = [*view.as_trained[:-1], 0.0]
        others = [view.refine(i, off)[0].masks[-1] for i in range(len(view.instances))]
    gains: dict[int, tuple[float, int]] = {}
    for i, (mask, k) in enumerate(zip(view.instances.masks, view.objects.tolist(), strict=True)):
        without = others[i]
        truth = sample.truth.masks[k]
        iou, other = float(mask_iou(mask, truth)), float(mask_iou(without, truth))
        if k >= 0 and view.instances.class_scores[i] >= 0.4 and max(iou, other) >= 0.5:
            dice = float(boundary_dice(mask, truth)), float(boundary_dice(without, truth))
            gain = (iou * dice[0]) ** 0.5 - (other * dice[1]) ** 0.5
            gains.setdefault(k, (gain, i))
    assert gains
    gain, instance = max(gains.values())
    image, chosen, reason = most_helped(model, [sample])
    assert (image, chosen) == (0, instance)
    assert f"({len(gains)})" in reason
    assert f"{gain:+.3f}" in reason
    listed = {e.instance: e.gain for e in examples(model, [sample, sample], candidates=1)}
    assert listed == pytest.approx({i: gain for gain, i in gains.values()}, abs=1e-6)


def test_without_a_boundary_it_begins_at_the_beginning(build: Build, sample: Sample) -> None:
    model = build("blendmask-tiny")
    image, instance, reason = most_helped(model, [made_true(model, sample, [1, 3], 0)])
    assert (image, instance) == (0, 0)
    assert "without a boundary basis" in reason


def test_nothing_found(build: Build, sample: Sample) -> None:
    model = build()
    torch.nn.init.constant_(model.instance_head.class_logits.bias, -50)  # type: ignore[union-attr,arg-type]
    view = inspect_image(model, sample)
    assert len(view.instances) == 0
    assert most_helped(model, [sample])[2] == "No object is found in the first 1 image."
    exponents = {"class": 1.0, "iou": 1.0, "boundary": 1.0}
    assert len(ranking_frame(view, exponents)) == 0


@pytest.fixture
def view(build: Build, sample: Sample) -> Inspection:
    return inspect_image(build(), sample)


def test_the_papers_exponents_give_the_models_own_scores(view: Inspection) -> None:
    found = view.instances
    exponents = paper_exponents(found)
    assert exponents == {"class": 1.0, "iou": 0.5, "boundary": 0.5}
    ranked = ranking_frame(view, exponents)
    torch.testing.assert_close(torch.tensor(ranked["S"].tolist()), found.scores)
    squared = ranking_frame(view, {"class": 2.0, "iou": 0.0, "boundary": 1.0}).sort_index()
    expected = found.class_scores**2 * found.boundary_scores
    torch.testing.assert_close(torch.tensor(squared["S"].tolist()), expected)
    alone = replace(found, boundary_scores=None)
    assert paper_exponents(alone) == {"class": 1.0, "iou": 1.0}
    assert paper_exponents(replace(alone, iou_scores=None)) == {"class": 1.0}


def test_the_frame_is_ranked(view: Inspection) -> None:
    exponents = {"class": 0.0, "iou": 0.0, "boundary": 1.0}
    frame = ranking_frame(view, exponents)
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    assert frame["S_boundary"].is_monotonic_decreasing
    rows = [i - 1 for i in frame.index]
    expected = view.instances.boundary_scores[rows]  # type: ignore[index]
    torch.testing.assert_close(torch.tensor(frame["S"].tolist()), expected)
    for name, k in zip(frame["object"], view.objects[rows].tolist(), strict=True):
        assert name == (view.sample.truth.names[k] if k >= 0 else "–")
