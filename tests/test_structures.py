from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from b2inst.structures import Detections, FrameMasks, Instances, RoIMasks, Targets, WindowMasks


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


def test_an_integer_picks_one_and_loops_end() -> None:
    assert [one.labels.tolist() for one in detections(3)] == [[0], [1], [2]]
    for last in (-1, np.int64(2), torch.tensor(2)):
        assert detections(3)[last].boxes.tolist() == [[2.0] * 4]
    with pytest.raises(IndexError):
        detections(3)[3]


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


def blobs(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth random maps in [0, 1]."""
    noise = torch.randn(count, 1, height, width, generator=torch.Generator().manual_seed(0))
    return (4 * F.avg_pool2d(noise, 5, stride=1, padding=2)).sigmoid()[:, 0]


@pytest.mark.parametrize("size", [(75, 120), (30, 41), (200, 90)])
def test_a_square_frame_is_spread_over_the_image(size: tuple[int, int]) -> None:
    """YOLACT: the grid, a last cell less than whole, is resized to the image at once."""
    maps = blobs(3, 24, 24)
    masks = FrameMasks(maps, torch.zeros(3, 4), stride=95 / 24, origin=95 / 48)
    expected = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    pasted = masks.paste(torch.zeros(3, 4), size, (95, 95))
    decided = (expected - 0.5).abs() > 1e-5
    assert pasted.dtype == torch.bool
    assert pasted[decided].equal((expected > 0.5)[decided])
    assert decided.float().mean() > 0.99


@pytest.mark.parametrize("size", [(75, 120), (150, 240), (37, 59)])
def test_a_padded_frame_with_aligned_cells_is_cut_and_resized(size: tuple[int, int]) -> None:
    """CondInst: cell j is pixel 4j + 2 of the padded input; that is cut, and resized."""
    frame, maps = (50, 80), blobs(3, 16, 24)  # padded to 64×96
    axes = [((torch.arange(4 * n) - 2).clamp(min=0) / 4).numpy() for n in maps.shape[1:]]
    places = np.meshgrid(*axes, indexing="ij")
    enlarged = torch.stack(
        [
            torch.from_numpy(ndimage.map_coordinates(m, places, order=1, mode="nearest"))
            for m in maps.numpy()
        ]
    )
    cut = enlarged[None, :, : frame[0], : frame[1]]
    expected = F.interpolate(cut, size, mode="bilinear", align_corners=False)[0]
    masks = FrameMasks(maps, torch.zeros(3, 4), stride=4, origin=2.5)
    pasted = masks.paste(torch.zeros(3, 4), size, frame)
    decided = (expected - 0.5).abs() > 1e-5
    assert pasted[decided].equal((expected > 0.5)[decided])
    assert decided.float().mean() > 0.99


def test_a_pixel_at_one_half_is_in_a_mask_of_a_box_and_not_in_one_of_the_frame() -> None:
    half, box = torch.full((1, 8, 8), 0.5), torch.tensor([[0.0, 0, 8, 8]])
    assert RoIMasks(half, box).paste(box, (8, 8), (8, 8)).all()
    assert not FrameMasks(half, box, 1, 0.5).paste(box, (8, 8), (8, 8)).any()
    pixels = torch.arange(2, 6)[None]
    assert RoIMasks(half, box).at(pixels, pixels).all()
    assert not FrameMasks(half, box, 1, 0.5).at(pixels, pixels).any()


@pytest.mark.parametrize("origin", [2.0, 2.5])
def test_masks_of_the_frame_are_read_where_their_boxes_are(origin: float) -> None:
    """Cells that hold their own centre's x: each bin holds the mean of its two samples."""
    centres = origin + 4 * torch.arange(40)
    maps = (centres / 200).expand(1, 40, 40)
    box = torch.tensor([[21.0, 30, 77, 100]])
    masks = FrameMasks(maps, box, 4, origin)
    bins = 21 + (torch.arange(14) + 0.5) * 4
    torch.testing.assert_close(masks.resized(14), (bins / 200).expand(1, 14, 14))
    rows, columns = torch.arange(30, 100), torch.arange(21, 150)
    pixels = masks.at(rows[None], columns[None])  # above one half from x = 100 on
    assert pixels.equal((columns + 0.5 > 100).expand(1, 70, -1))


def test_no_masks_of_the_frame() -> None:
    nothing = FrameMasks(torch.zeros(0, 8, 8), torch.zeros(0, 4), 4, 2)
    assert nothing.resized(14).shape == (0, 14, 14)
    assert nothing.paste(torch.zeros(0, 4), (30, 40), (32, 32)).shape == (0, 30, 40)


def test_some_masks_are_pasted_in_a_given_order() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [8, 4, 40, 30], [2, 2, 30, 9]])
    order = torch.tensor([2, 0])
    for masks in (RoIMasks(blobs(3, 28, 28), boxes), FrameMasks(blobs(3, 16, 20), boxes, 2, 1)):
        pasted = masks[order].paste(boxes[order], (32, 40), (32, 40))
        assert pasted.any()
        assert pasted.equal(masks.paste(boxes, (32, 40), (32, 40))[order])


def test_masks_of_windows_are_pasted_one_by_one() -> None:
    """Of two sizes, in windows that reach beyond the image, which has other proportions."""
    windows = torch.tensor([[-10.0, -10, 30, 30], [20, 6, 60, 46], [4, 4, 24, 24]])
    masks = WindowMasks([*blobs(2, 8, 8), *blobs(1, 5, 5)], windows)
    boxes, size = torch.zeros(3, 4), (20, 40)  # boxes are of no matter
    pasted = masks.paste(boxes, size, (40, 60))
    assert pasted.shape == (3, *size)
    scaled = windows * torch.tensor([40 / 60, 20 / 40] * 2)
    for mask, own, window in zip(pasted, masks.probabilities, scaled, strict=True):
        assert mask.any()
        alone = RoIMasks(own[None], window[None])
        assert mask.equal(alone.paste(window[None], size, size)[0])
    order = torch.tensor([2, 0])
    assert masks[order].paste(boxes[order], size, (40, 60)).equal(pasted[order])
    none = masks[order[:0]]
    assert none.paste(boxes[:0], size, (40, 60)).shape == (0, *size)
