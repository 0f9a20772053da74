from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.basis_heads import PrototypeHead
from b2inst.modules.boundary_basis import BoundaryBasis
from b2inst.modules.prior_box_head import PriorBoxHead
from b2inst.ops.fast_nms import cross_class_fast_nms, fast_nms
from b2inst.structures import Targets

Picture = Callable[..., np.ndarray]


def hollow(name: str, **options: Any) -> BasisSegmenter:
    """A model that takes no memory."""
    with torch.device("meta"):
        return create_model(name, num_classes=80, **options)


@pytest.mark.parametrize(("size", "side"), [(550, 138), (700, 176)])
def test_prototypes_are_spread_over_the_square(size: int, side: int) -> None:
    model = hollow("yolact-r50", size=size)
    assert model.preprocessor.fixed_size == (size, size)
    assert isinstance(model.basis_head, PrototypeHead)
    assert model.basis_head.cell * side == pytest.approx(size)


def test_prior_boxes_of_700_pixels_are_the_published_ones() -> None:
    """Published: 24 to 384 pixels of 550, times 700 / 550, without the fraction."""
    head = hollow("yolact-r101", size=700).instance_head
    assert isinstance(head, PriorBoxHead)
    assert [scale * 700 for scale in head.scales] == pytest.approx([30, 61, 122, 244, 488])


def test_the_boundary_is_one_more_prototype() -> None:
    plain, full = hollow("yolact-r50"), hollow("b2inst-yolact-r50")
    assert isinstance(full.basis_head, BoundaryBasis)
    assert full.basis_head.num_bases == full.assembler.num_coefficients == 33
    assert plain.assembler.num_coefficients == 32
    assert full.scoring_head is not None
    assert set(full.scoring_head.branches) == {"iou", "boundary"}


def test_a_boundary_without_a_branch_is_refused() -> None:
    with pytest.raises(ValueError, match="never negative; give the boundary a branch of its own"):
        hollow("yolact-tiny", boundary={"branch_channels": 0})


def test_shared_parts_start_from_equal_weights_whatever_else_there_is() -> None:
    def weights(name: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return create_model(name, num_classes=4).state_dict()

    plain, full = weights("yolact-tiny"), weights("b2inst-yolact-tiny")
    full = {name.replace("basis_head.basis_head", "basis_head"): v for name, v in full.items()}
    shared = [name for name in plain if not name.startswith("instance_head.coefficients")]
    assert all(plain[name].equal(full[name]) for name in shared)
    backbone = "backbone.stem.0.weight"
    torch.manual_seed(3)
    blendmask = create_model("blendmask-tiny", num_classes=4).state_dict()
    assert plain[backbone].equal(blendmask[backbone])


@pytest.fixture
def found_everywhere() -> Callable[..., BasisSegmenter]:
    """A function: options to a small model that finds something in any image."""

    def build(**options: Any) -> BasisSegmenter:
        torch.manual_seed(0)
        names = ("a", "b", "c")
        model = create_model("b2inst-yolact-tiny", num_classes=3, class_names=names, **options)
        assert isinstance(model.instance_head, PriorBoxHead)
        torch.nn.init.normal_(model.instance_head.class_logits.weight, std=0.3)
        return model.eval()

    return build


@pytest.mark.parametrize("shape", [(75, 120), (96, 96), (200, 31)])
def test_instances_are_in_the_images_pixels(
    found_everywhere: Callable[..., BasisSegmenter], picture: Picture, shape: tuple[int, int]
) -> None:
    (found,) = found_everywhere().predict([picture(*shape)])
    assert len(found) > 5
    assert found.masks.shape == (len(found), *shape)
    assert found.masks.any()
    assert (found.boxes[:, 0::2] <= shape[1]).all()
    assert (found.boxes[:, 1::2] <= shape[0]).all()
    assert found.boundary_scores is not None
    assert found.iou_scores is not None
    expected = found.class_scores * (found.iou_scores * found.boundary_scores).sqrt()
    torch.testing.assert_close(found.scores, expected)
    # A mask reaches no further than a cell of the prototypes beside its box, and a blurred one.
    margin = 2 * 2 * max(shape) / 96 + 1
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.tolist(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows):
            assert rows.min() >= y1 - margin
            assert rows.max() <= y2 + margin
            assert columns.min() >= x1 - margin
            assert columns.max() <= x2 + margin


def test_images_of_several_shapes_go_together(
    found_everywhere: Callable[..., BasisSegmenter], picture: Picture
) -> None:
    model = found_everywhere(scoring=())
    images = [picture(96, 96), picture(40, 200, 1)]
    together = model.predict(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = model.predict([image])
        assert len(alone) == len(found)
        torch.testing.assert_close(alone.scores, found.scores, atol=1e-4, rtol=1e-4)


def test_which_suppression_is_an_option() -> None:
    for option, nms in ((False, fast_nms), (True, cross_class_fast_nms)):
        head = hollow("yolact-r50", cross_class_nms=option).instance_head
        assert isinstance(head, PriorBoxHead)
        assert head.nms is nms


def test_explanation_covers_the_image(
    found_everywhere: Callable[..., BasisSegmenter], picture: Picture
) -> None:
    explained = found_everywhere().explain(picture(75, 120))
    assert explained.content == (48, 48)
    assert explained.boundary is not None
    assert explained.boundary.shape == (48, 48)


def test_images_at_their_own_size_are_padded(
    found_everywhere: Callable[..., BasisSegmenter],
    picture: Picture,
    make_targets: Callable[..., Targets],
) -> None:
    model = found_everywhere(keep_size=True)
    image = picture(64, 96)
    explained = model.explain(image)
    assert explained.bases.maps.shape[2:] == (32, 48)
    wider = np.pad(image, ((0, 0), (0, 20), (0, 0)))
    assert model.explain(wider).bases.maps.shape[2:] == (32, 64)
    assert model.explain(wider).content == (32, 58)
    pixels = torch.from_numpy(np.ascontiguousarray(wider)).permute(2, 0, 1)
    losses = model.train()([pixels], [make_targets((64, 116), [(8, 8, 40, 40)])])
    assert all(value.isfinite() and value > 0 for value in losses.values())


@pytest.mark.parametrize("empty", [False, True])
def test_losses_have_names_and_reach_every_parameter(
    make_targets: Callable[..., Targets], empty: bool
) -> None:
    torch.manual_seed(0)
    model = create_model("b2inst-yolact-tiny", num_classes=3).train()
    boxes = [] if empty else [(10, 10, 50, 40), (30, 50, 80, 90), (2, 4, 92, 90)]
    images = list(torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8))
    losses = model(images, [make_targets((96, 96), boxes), make_targets((96, 96), [])])
    expected = {"class", "box", "mask", "boundary_bce", "boundary_dice"}
    expected |= {"iou_score", "boundary_score"}
    assert {name.removeprefix("loss_") for name in losses} == expected
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unreached
    if not empty:
        still = [n for n, p in model.named_parameters() if not p.grad.any()]  # type: ignore[union-attr]
        assert not still
