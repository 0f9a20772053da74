from __future__ import annotations

import pytest
import torch

from b2inst.structures import Detections, Instances, RoIMasks, Targets


def detections(count: int) -> Detections:
    numbers = torch.arange(count)
    return Detections(
        boxes=numbers[:, None].float().expand(-1, 4),
        scores=numbers / max(count, 1),
        labels=numbers,
        coefficients=numbers[:, None].float().expand(-1, 7),
    )


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (torch.tensor([3, 0]), [3, 0]),
        (torch.tensor([False, True, False, True]), [1, 3]),
        (torch.tensor([], dtype=torch.int64), []),
    ],
)
def test_instances_are_picked_together(index: torch.Tensor | slice, expected: list[int]) -> None:
    picked = detections(4)[index]
    assert len(picked) == len(expected)
    assert picked.labels.tolist() == picked.boxes[:, 0].tolist() == expected
    assert picked.coefficients.shape == (len(expected), 7)


def test_absent_fields_stay_absent_and_names_follow_labels() -> None:
    instances = Instances(
        boxes=torch.zeros(2, 4),
        scores=torch.zeros(2),
        class_scores=torch.zeros(2),
        labels=torch.tensor([1, 0]),
        masks=torch.zeros(2, 3, 3, dtype=torch.bool),
        class_names=("cat", "dog"),
    )
    picked = instances[1:]
    assert picked.iou_scores is None
    assert instances.names == ["dog", "cat"]
    assert picked.names == ["cat"]
    picked.class_names = None
    assert picked.names == ["0"]


def test_targets_move_as_a_whole(make_targets: object) -> None:
    assert callable(make_targets)
    targets: Targets = make_targets((8, 8), [(1, 1, 4, 4)], image_id=5)
    moved = targets.to("meta")
    assert moved.image_id == 5
    assert {t.device.type for t in (moved.boxes, moved.labels, moved.masks, moved.semantic)} == {
        "meta"
    }
    assert len(moved) == 1


@pytest.mark.parametrize("count", [0, 3])
def test_roi_masks_are_averaged_over_blocks(count: int) -> None:
    masks = RoIMasks(torch.rand(count, 28, 28), torch.zeros(count, 4))
    expected = masks.probabilities.reshape(count, 14, 2, 14, 2).mean((2, 4))
    torch.testing.assert_close(masks.resized(14), expected)
