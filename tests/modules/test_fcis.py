from __future__ import annotations

from collections.abc import Callable
from itertools import product
from unittest.mock import patch

import torch
from torch import Tensor
from torchvision.ops import ps_roi_align

from b2inst.modules.fcis import FCISDetector
from b2inst.structures import Features, ImageBatch, Targets

MakeTargets = Callable[..., Targets]
STRIDES = (4, 8)
SIZES = [(64, 96), (50, 80)]


def detector(**options: int) -> FCISDetector:
    torch.manual_seed(0)
    made = FCISDetector(
        in_channels=6,
        num_classes=2,
        stride=4,
        channels=8,
        strides=STRIDES,
        anchor_sizes=(8, 16),
        train_proposals=(50, 20),
        test_proposals=(50, 20),
        **options,
    )
    torch.nn.init.normal_(made.score_maps.weight)
    return made


def features() -> Features:
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(2, 6, 64 // s, 96 // s, generator=generator) for s in STRIDES}


#: Of two images; some of one pixel, at the border and beyond it.
BOXES = [
    torch.tensor([[3.0, 5.0, 60.0, 50.0], [95.0, 63.0, 96.0, 64.0]]),
    torch.tensor([[-20.0, -8.0, 120.0, 80.0]]),
]


def slow_cells(model: FCISDetector, maps: Tensor) -> Tensor:
    """Each cell of the regions by torchvision's pooling of a box around it alone: N×C×21×21."""
    channels = maps.shape[3] // 49
    score_maps = maps.unflatten(3, (49, channels)).permute(0, 4, 3, 1, 2).flatten(1, 2)
    found = torch.zeros(3, channels, 21, 21)
    boxes = [(i, *box.tolist()) for i, own in enumerate(BOXES) for box in own]
    for n, (image, x1, y1, x2, y2) in enumerate(boxes):
        width, height = (x2 - x1) / 21, (y2 - y1) / 21
        for row, column in product(range(21), range(21)):
            x, y = x1 + (column + 0.5) * width, y1 + (row + 0.5) * height
            part = row // 3 * 7 + column // 3
            around = torch.tensor([[image, x - 1, y - 1, x + 1, y + 1]])
            own = score_maps[:, part::49].contiguous()
            found[n, :, row, column] = ps_roi_align(own, around, 1, 1 / 4, 1)[0, :, 0, 0]
    return found


@torch.no_grad()
def test_classes_and_masks_come_from_the_same_scores() -> None:
    """Detection: a softmax over classes of mean maxima; segmentation: one over in and outside."""
    model = detector().eval()
    maps = model.maps(features())
    assert maps.shape == (2, 16, 24, (2 * 3 + 4) * 49)
    outputs = model.regions(maps, BOXES)
    cells = slow_cells(model, maps)
    for n, k in product(range(3), range(3)):
        inside, outside = cells[n, k], cells[n, 3 + k]
        likelihood = torch.stack([inside, outside]).amax(0).mean()
        torch.testing.assert_close(outputs.class_logits[n, k], likelihood, atol=1e-4, rtol=1e-4)
        if k:
            probability = torch.stack([inside, outside]).softmax(0)[0]
            found = outputs.mask_logits[n, k - 1].sigmoid()
            torch.testing.assert_close(found, probability, atol=1e-4, rtol=1e-4)
    moves = cells[:, 6:].mean((2, 3))
    torch.testing.assert_close(outputs.moves, moves, atol=1e-4, rtol=1e-4)


def test_the_hardest_regions_of_each_image_are_trained(make_targets: MakeTargets) -> None:
    model = detector(hard_samples=7)
    batch = ImageBatch(torch.zeros(2, 3, 64, 96), SIZES)
    targets = [make_targets((64, 96), [(5, 5, 60, 50), (95, 63, 96, 64)], [1, 0])]
    targets.append(make_targets((50, 80), []))
    plain, seen = model.region_losses, []
    with patch.object(
        model, "region_losses", lambda *a: seen.append((a, plain(*a))) or seen[-1][1]
    ):
        losses = model.loss(features(), batch, targets)
    ((_, boxes, _), each) = seen[0]
    assert boxes[0][-2:].equal(targets[0].boxes)
    counts = [len(own) for own in boxes]
    assert counts == [22, 20]
    chosen = []
    for own in each.split(counts):
        chosen += sorted(own.tolist(), key=sum)[-7:]
    classes, moves, masks = zip(*chosen, strict=True)
    on_objects = [value for value in masks if value > 0]
    assert on_objects
    torch.testing.assert_close(losses["loss_class"].item(), sum(classes) / 14)
    torch.testing.assert_close(losses["loss_box"].item(), sum(moves) / 14)
    torch.testing.assert_close(losses["loss_mask"].item(), sum(on_objects) / len(on_objects))
    assert set(losses) == {
        f"loss_{n}" for n in ("objectness", "rpn_box_reg", "class", "box", "mask")
    }


def test_images_without_objects_and_without_proposals(make_targets: MakeTargets) -> None:
    model = detector()
    batch = ImageBatch(torch.zeros(2, 3, 64, 96), SIZES)
    for least in (1e-3, 1e9):
        model.rpn.min_size = least
        losses = model.loss(features(), batch, [make_targets(size, []) for size in SIZES])
        assert losses["loss_box"] == losses["loss_mask"] == 0
        assert (losses["loss_class"] > 0) == (least < 1)
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
