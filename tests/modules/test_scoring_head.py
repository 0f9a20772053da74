from __future__ import annotations

import pytest
import torch

from b2inst.modules.scoring_head import ScoringHead
from b2inst.ops.quality import mask_quality
from b2inst.structures import RoIMasks


def make_head(**options: object) -> ScoringHead:
    torch.manual_seed(0)
    return ScoringHead(in_channels=6, channels=8, hidden=16, **options)  # type: ignore[arg-type]


def features(height: int = 64, width: int = 96) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        s: torch.randn(2, 6, height // s, width // s, generator=generator) for s in (8, 16, 32, 64)
    }


BOXES = [torch.tensor([[4.0, 4, 40, 60], [0, 0, 96, 64]]), torch.tensor([[50.0, 10, 51, 11]])]


def masks(boxes: list[torch.Tensor]) -> RoIMasks:
    every = torch.cat(boxes)
    return RoIMasks(
        torch.rand(len(every), 28, 28, generator=torch.Generator().manual_seed(1)), every
    )


def truths(boxes: list[torch.Tensor]) -> list[torch.Tensor]:
    result = []
    for some in boxes:
        bitmaps = torch.zeros(len(some), 64, 96, dtype=torch.uint8)
        for bitmap, (x1, y1, x2, y2) in zip(bitmaps, some.int().tolist(), strict=True):
            bitmap[y1:y2, x1:x2] = 1
        result.append(bitmaps)
    return result


@pytest.mark.parametrize("branches", [("iou",), ("boundary",), ("iou", "boundary")])
def test_a_logit_for_each_branch_and_mask(branches: tuple[str, ...]) -> None:
    logits = make_head(branches=branches)(features(), BOXES, masks(BOXES))
    assert set(logits) == set(branches)
    assert all(value.shape == (3,) for value in logits.values())


@pytest.mark.parametrize("branches", [(), ("dice",), ("iou", "dice")])
def test_unknown_branches_are_named(branches: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"choose from \['iou', 'boundary'\]"):
        make_head(branches=branches)


def test_each_mask_is_rated_by_itself() -> None:
    head = make_head()
    together = head(features(), BOXES, masks(BOXES))
    second = [BOXES[0][:0], BOXES[1]]
    alone = head(features(), second, masks(BOXES)[2:])
    for name, value in alone.items():
        torch.testing.assert_close(value, together[name][2:])


def test_loss_is_least_where_the_prediction_is_the_true_quality() -> None:
    """Cross-entropy with soft targets: no gradient at the quality, some everywhere else."""
    head = make_head()
    boxes, given = BOXES, masks(BOXES)
    for name, index in (("iou", 0), ("boundary", 1)):
        quality = torch.cat(
            [
                mask_quality(m, t)[index]
                for m, t in zip((given[:2], given[2:]), truths(boxes), strict=True)
            ]
        ).clamp(0.01, 0.99)
        assert (quality > 0.01).any()
        for shift, sign in ((0.0, 0), (1.0, 1), (-1.0, -1)):
            logits = (quality.logit() + shift).requires_grad_()
            head.forward = lambda *_, n=name, v=logits: {n: v}  # type: ignore[method-assign]
            loss = head.loss(features(), boxes, given, truths(boxes))[f"loss_{name}_score"]
            (gradient,) = torch.autograd.grad(loss, logits)
            inside = (quality > 0.01) & (quality < 0.99)
            torch.testing.assert_close(
                gradient[inside].sign() * (gradient[inside].abs() > 1e-6),
                torch.full_like(gradient[inside], sign),
            )


def test_no_objects_no_loss() -> None:
    nothing = [torch.zeros(0, 4), torch.zeros(0, 4)]
    losses = make_head().loss(features(), nothing, masks(nothing), truths(nothing))
    assert {name: value.item() for name, value in losses.items()} == {
        "loss_iou_score": 0,
        "loss_boundary_score": 0,
    }
    torch.stack(list(losses.values())).sum().backward()


def test_features_lie_where_the_masks_do() -> None:
    """A feature that holds its own cells' centres is pooled to the centres of the RoI's bins."""
    ramps = {}
    for stride in (8, 16, 32):
        centres = stride * (torch.arange(640 // stride) + 0.5)
        ramps[stride] = torch.stack(
            [centres.expand(len(centres), -1).T, centres.expand(len(centres), -1)]
        )[None]
    box = torch.tensor([100.0, 130, 212, 242])
    bins = (torch.arange(14) + 0.5) * 8
    pooled = make_head().pool(ramps, [box[None]])[0]
    torch.testing.assert_close(pooled[0], (130 + bins)[:, None].expand(14, 14))
    torch.testing.assert_close(pooled[1], (100 + bins).expand(14, 14))


def test_projecting_before_pooling_is_projecting_what_is_pooled() -> None:
    """A 1×1 convolution after the pooling is what the docstring promises."""
    head = make_head(pooled_channels=4)
    boxes = [torch.tensor([[4.0, 4, 40, 60], [0, 0, 90, 64]]), torch.tensor([[9.0, 10, 600, 500]])]
    plain = make_head().pool(features(640, 640), boxes)
    weight = head.project.weight
    assert isinstance(weight, torch.Tensor)
    expected = torch.einsum("oi,nirc->norc", weight[:, :, 0, 0], plain)
    torch.testing.assert_close(head.pool(features(640, 640), boxes), expected)
    assert head(features(640, 640), boxes, masks(boxes))["iou"].shape == (3,)


def test_the_level_suits_the_size_of_the_box() -> None:
    """FPN (Lin et al. 2017), Eq. 1: 224 pixels are of stride 16, each level is twice as large."""
    levels = {s: torch.full((2, 1, 640 // s, 640 // s), float(s)) for s in (8, 16, 32)}
    sides = [20, 100, 113, 223, 225, 447, 449, 600]
    boxes = [torch.tensor([[0.0, 0, s, s] for s in part]) for part in (sides[::-1], sides)]
    pooled = make_head().pool(levels, boxes)[:, 0, 7, 7].tolist()
    strides = [8 if s < 224 else 16 if s < 448 else 32 for s in sides]
    assert pooled == strides[::-1] + strides
