from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from b2inst.models import BasisSegmenter
from b2inst.ops.quality import boundary_dice, mask_iou
from b2inst.viz.explore.composition import Composition, Contributions
from b2inst.viz.explore.opening import opening
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.view import look
from b2inst.viz.explore.words import describe, describe_change, describe_forming, regional_means

Build = Callable[..., BasisSegmenter]


def test_means_by_region(build: Build, subject: Subject) -> None:
    view = look(build(), subject)
    mask = torch.zeros((48, 64), dtype=torch.bool)
    mask[10:20, 10:20] = True
    part = torch.zeros((48, 64))
    part[10:20, 10:20] = 5.0
    part[11:19, 11:19] = 2.0  # without the outline
    whole = Composition(part, (0.0, 64.0, 0.0, 48.0), None)
    apart = Contributions(whole, part[None], torch.zeros_like(part))
    assert regional_means(view, part, apart, mask) == pytest.approx([2.0, 5.0, 0.0])
    window = Contributions(
        Composition(part[10:20, 10:20], (10.0, 20.0, 10.0, 20.0), None), part[None], part
    )
    inside, outline, around = regional_means(view, part[10:20, 10:20], window, mask)
    assert (inside, outline) == pytest.approx((2.0, 5.0))
    assert math.isnan(around)


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_the_words_carry_the_numbers(family: str, build: Build, subject: Subject) -> None:
    view = look(build(f"b2inst-{family}-tiny"), subject)
    text = " ".join(describe(view, 0, view.num_bases - 1))
    effect = view.switch_off(0, view.num_bases - 1)
    assert f"{effect.changed} of {effect.pixels} pixels" in text
    assert text.startswith("The boundary basis")
    assert ("no sum" in text) == (family == "condinst")
    assert ("attention" in text) == (family == "blendmask")
    assert ("coefficient" in text) == (family == "yolact")
    assert "nan" not in text
    assert describe(view, 0, 0)[0].startswith("Basis 1 ")


def test_the_words_of_a_change_count_its_pixels(build: Build, subject: Subject) -> None:
    view = look(build(), subject)
    factors = [1.0] * 4 + [-2.0]
    outcome = view.recompose(factors)
    before, after = view.explanation.instances.masks[0], outcome.instances.masks[0]
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    assert gained + lost > 0
    (line,) = describe_change(view, outcome, 0, factors)
    assert line.startswith("Your change (boundary × −2.0)")
    assert f"+{gained} −{lost}" in line
    assert f"S_IoU {float(view.explanation.instances.iou_scores[0]):.2f} → " in line
    assert describe_change(view, view.trained, 0, [1.0] * 5) == []


def test_a_gate_is_not_called_a_basis(build: Build, subject: Subject) -> None:
    view = look(build("gated-blendmask-tiny"), subject)
    text = " ".join(describe(view, 0, view.num_bases - 1))
    assert text.startswith("Basis 4 ")
    assert "before the gate" in text
    assert "boundary" not in text.lower().replace("boundary dice", "")
    formed = view.form(0, [1.0] * view.num_bases)
    first, last = describe_forming(view, formed, 0), describe_forming(view, formed, view.steps)
    assert "before the gate" in first[-1]
    gained = int((formed.masks[-1] & ~formed.masks[0]).sum())
    assert f"to step 12 of 12: {formed.effect(0, 12).changed} of " in last[-1]
    assert f"+{gained} −" in last[-1]
    assert "boundary" in last[0]


def test_without_a_boundary_no_words_are_of_one(build: Build, subject: Subject) -> None:
    view = look(build("blendmask-tiny", refine={"convs": {}}), subject)
    assert not view.gated
    formed = view.form(0, [1.0] * view.num_bases)
    lines = describe_forming(view, formed, 0)
    assert lines == ["This is the mask as composed of the bases, before the refinement."]


def made_true(model: BasisSegmenter, subject: Subject, rows: list[int], moved: int) -> Subject:
    """Some of the predictions, moved to the right, become the objects, so that some are found."""
    found = look(model, subject).explanation.instances
    masks = found.masks[rows].roll(moved, 2)
    return replace(subject, truth=replace(subject.truth, masks=masks, boxes=found.boxes[rows]))


@pytest.mark.parametrize("moved", [0, 2, -2])
@pytest.mark.parametrize("name", ["b2inst-blendmask-tiny", "gated-condinst-tiny"])
def test_the_opening_is_the_mask_that_is_helped_most(
    name: str, moved: int, build: Build, subject: Subject
) -> None:
    model = build(name)
    subject = made_true(model, subject, [1, 3], moved)
    view = look(model, subject)
    found = view.explanation.instances
    chosen = opening(model, [subject])
    if view.gated:
        model.assembler.refinement = None  # type: ignore[attr-defined,assignment]
        without = view.recompose([1.0] * view.num_bases).instances.masks
    else:
        without = view.recompose([1.0] * (view.num_bases - 1) + [0.0]).instances.masks
    losses: dict[int, tuple[float, int]] = {}
    for i, (mask, k) in enumerate(zip(found.masks, view.objects.tolist(), strict=True)):
        truth = subject.truth.masks[k]
        iou = float((mask & truth).sum() / (mask | truth).sum())
        if k >= 0 and found.class_scores[i] >= 0.4 and iou >= 0.5:
            own, other = (
                float(mask_iou(m, truth) * boundary_dice(m, truth)) ** 0.5
                for m in (mask, without[i])
            )
            losses.setdefault(k, (own - other, i))
    assert losses
    loss, instance = max(losses.values())
    assert (chosen.image, chosen.instance) == (0, instance)
    assert f"the {len(losses)} objects" in chosen.reason
    part = "gate" if name.startswith("gated") else "boundary basis"
    assert (f"the {part} helps most" in chosen.reason) == (loss > 0)
    assert (f"The {part} helps none" in chosen.reason) == (loss <= 0)


def test_a_boundary_that_helps_nothing_is_said_to(build: Build, subject: Subject) -> None:
    """The objects are the masks that the model would make without it."""
    model = build()
    view = look(model, subject)
    masks = view.recompose([1.0] * 4 + [0.0]).instances.masks[[1, 3]]
    assert not masks.equal(view.explanation.instances.masks[[1, 3]])
    subject = replace(subject, truth=replace(subject.truth, masks=masks))
    assert "The boundary basis helps none of the" in opening(model, [subject]).reason


def test_without_a_boundary_basis_it_opens_at_the_beginning(build: Build, subject: Subject) -> None:
    chosen = opening(build("blendmask-tiny"), [subject])
    assert (chosen.image, chosen.instance) == (0, 0)
    assert "without a boundary basis" in chosen.reason
