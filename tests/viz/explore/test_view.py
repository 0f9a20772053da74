from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from b2inst.models import BasisSegmenter, create_model
from b2inst.structures import Bases, Features
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.view import look

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


@pytest.mark.parametrize("family", FAMILIES)
def test_unchanged_bases_give_what_the_model_predicts(
    family: str, build: Build, subject: Subject
) -> None:
    model = build(f"b2inst-{family}-tiny")
    (predicted,) = model.predict([subject.image])
    view = look(model, subject)
    found = view.recompose([1.0] * view.num_bases).instances
    assert 0 < len(found) <= 6
    assert found.masks.equal(predicted.masks)
    torch.testing.assert_close(found.boundary_scores, predicted.boundary_scores)
    torch.testing.assert_close(found.iou_scores, predicted.iou_scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_scaled_basis_is_a_model_whose_basis_head_scales_it(
    family: str, build: Build, subject: Subject
) -> None:
    model = build(f"b2inst-{family}-tiny")
    view = look(model, subject)
    found = view.recompose([1.0] * (view.num_bases - 1) + [-2.0]).instances
    assert not found.masks.equal(view.explanation.instances.masks)
    model.basis_head = LastTimes(model.basis_head, -2.0)  # type: ignore[assignment]
    (expected,) = model.predict([subject.image])
    order = torch.cdist(found.boxes, expected.boxes).argmin(1)  # ranked anew
    assert found.masks.equal(expected.masks[order])
    torch.testing.assert_close(found.boundary_scores, expected.boundary_scores[order])


def test_quality_is_with_the_object_that_a_mask_overlaps_most(
    build: Build, subject: Subject
) -> None:
    view = look(build(), subject)
    masks = view.explanation.instances.masks.numpy()
    truths = subject.truth.masks.numpy()
    for mask, k, iou in zip(masks, view.objects, view.trained.iou, strict=True):
        each = [(mask & t).sum() / (mask | t).sum() for t in truths]
        if max(each) == 0:
            assert int(k) == -1
            assert torch.isnan(iou)
        else:
            assert int(k) == int(np.argmax(each))
            assert float(iou) == pytest.approx(max(each))


def test_switching_off_says_what_recomposing_shows(build: Build, subject: Subject) -> None:
    view = look(build(), subject)
    off = view.recompose([1.0] * 4 + [0.0])
    for i in range(len(off.instances)):
        effect = view.switch_off(i, 4)
        before, after = view.explanation.instances.masks[i], off.instances.masks[i]
        assert effect.pixels == before.sum()
        assert effect.changed == (before != after).sum()
        assert effect.iou == pytest.approx(
            (float(view.trained.iou[i]), float(off.iou[i])), nan_ok=True
        )
        assert effect.dice == pytest.approx(
            (float(view.trained.dice[i]), float(off.dice[i])), nan_ok=True
        )


def test_an_image_of_which_nothing_is_known(build: Build, subject: Subject) -> None:
    nothing = subject.truth[torch.zeros(2, dtype=torch.bool)]
    view = look(build("blendmask-tiny"), replace(subject, truth=nothing, annotations=None))
    assert view.objects.tolist() == [-1] * len(view.explanation.instances)
    assert view.trained.iou.isnan().all()
    assert view.boundary_basis is None
    assert view.basis_names == ["basis 1", "basis 2", "basis 3", "basis 4"]


def test_a_supervised_boundary_is_a_basis_only_where_masks_use_it(subject: Subject) -> None:
    shape_only = create_model(
        "b2inst-blendmask-tiny", num_classes=3, boundary={"as_basis": False}, scoring=[]
    ).eval()
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    from PIL import Image

    from b2inst.viz.explore.subjects import _unknown

    view = look(shape_only, _unknown("black", Image.fromarray(picture)))
    assert view.explanation.boundary is not None
    assert view.boundary_basis is None


def test_extents_are_in_pixels_of_the_image(build: Build, subject: Subject) -> None:
    large = replace(subject, image=subject.image.repeat(2, 0).repeat(2, 1))
    nothing = subject.truth[torch.zeros(2, dtype=torch.bool)]
    nothing.masks = torch.zeros((0, 96, 128), dtype=torch.bool)
    view = look(build(), replace(large, truth=nothing, annotations=None))
    assert view.frame == (48, 64)
    assert view.in_image((1.0, 2.0, 3.0, 4.0)) == (2.0, 4.0, 6.0, 8.0)
    assert view.content_extent == (0.0, 128.0, 0.0, 96.0)
