from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from b2inst.models import BasisSegmenter
from b2inst.ops.quality import mask_iou
from b2inst.viz.explore import forming_examples
from b2inst.viz.explore.forming_examples import changes, forming_figure
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.view import look

Build = Callable[..., BasisSegmenter]


@pytest.fixture
def all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forming_examples, "_STRONG", 0.0)
    monkeypatch.setattr(forming_examples, "_FOUND", 0.0)


@pytest.mark.usefixtures("all_count")
def test_a_gain_is_what_the_refinement_changes(build: Build, subject: Subject) -> None:
    model = build("gated-blendmask-tiny")
    plain = deepcopy(model)
    plain.assembler.refinement = None
    before = look(plain, subject).explanation.instances.masks
    found = changes(model, [subject, subject], candidates=1)
    assert found
    objects = [int(change.view.objects[change.instance]) for change in found]
    assert len(objects) == len(set(objects))  # each once
    gains = [change.gain for change in found]
    assert gains == sorted(gains)
    for change in found:
        truth = subject.truth.masks[change.view.objects[change.instance]]
        one = slice(change.instance, change.instance + 1)
        after = mask_iou(change.view.explanation.instances.masks[one], truth)
        assert change.gain == pytest.approx(float(after - mask_iou(before[one], truth)), abs=1e-6)


def test_what_is_not_found_is_no_example(build: Build, subject: Subject) -> None:
    model = build("gated-blendmask-tiny")
    for part in model.instance_head.parameters():
        part.data.zero_()  # class scores and boxes of nothing
    assert changes(model, [subject]) == []


@pytest.mark.usefixtures("all_count")
def test_the_figure_has_a_row_each_for_best_median_and_worst(
    build: Build, subject: Subject
) -> None:
    found = changes(build("gated-blendmask-tiny"), [subject])
    three, one = forming_figure(found), forming_figure(found[:1])
    assert three.width == one.width
    assert three.height == one.height  # one example stands for all three


def test_masks_that_do_not_form_are_refused(build: Build, subject: Subject) -> None:
    with pytest.raises(ValueError, match="no refinement"):
        changes(build(), [subject])
