from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from b2inst.data.transforms import (
    RandomCentreCrop,
    RandomColours,
    ResizeShorterSide,
    ResizeTo,
    Transpose,
    resized_size,
    train_transforms,
)

sides = st.integers(1, 1200)


def sample(height: int, width: int, boxes: list[list[float]]) -> tuple[Image.Image, dict[str, Any]]:
    """An image whose red channel, masks and boxes show the same rectangles."""
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    union = masks.any(axis=0).astype(np.uint8)
    image = Image.fromarray(np.stack([union * 255, union * 0, union * 128], axis=2))
    return image, {
        "boxes": tv_tensors.BoundingBoxes(
            torch.tensor(boxes).reshape(-1, 4), format="XYXY", canvas_size=(height, width)
        ),
        "masks": tv_tensors.Mask(torch.from_numpy(masks)),
        "semantic": tv_tensors.Mask(torch.from_numpy(union)),
    }


@given(height=sides, width=sides, shorter=st.integers(1, 900), longer_max=st.integers(1, 1400))
def test_size_rule(height: int, width: int, shorter: int, longer_max: int) -> None:
    new = resized_size(height, width, shorter, longer_max)
    scale = min(shorter / min(height, width), longer_max / max(height, width))
    assert abs(new[0] - max(scale * height, 1)) <= 0.5 + 1e-6  # no side is lost
    assert abs(new[1] - max(scale * width, 1)) <= 0.5 + 1e-6
    assert max(new) <= max(longer_max, 1) + 0.5


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((427, 640), (800, 1199)), ((200, 640), (417, 1333))],
)
def test_sizes_of_the_coco_recipe(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, 800, 1333) == expected


def test_one_size_for_every_shape() -> None:
    """Image, bitmaps and boxes are squeezed alike, each axis by its own factor."""
    image, shapes = sample(40, 60, [[12, 10, 48, 30]])
    for resize in (
        ResizeTo((80, 30)),
        train_transforms(shorter=7, longer_max=7, fixed_size=(80, 30), flip=0),
    ):
        squeezed, found = resize(image, shapes)
        assert squeezed.size == (30, 80)
        assert found["boxes"].tolist() == [[6, 20, 24, 60]]
        expected = np.zeros((80, 30), np.uint8)
        expected[20:60, 6:24] = 1
        np.testing.assert_array_equal(found["masks"][0], expected)
        np.testing.assert_array_equal(found["semantic"], expected)
        red = np.asarray(squeezed)[:, :, 0] / 255
        assert np.abs(red - expected)[22:58, 8:22].max() == 0
        assert np.abs(red - expected).mean() < 0.05


def test_squeezing_an_image_is_bilinear_without_antialiasing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    floats = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(floats, (20, 20), mode="bilinear")[0]
    squeezed = ResizeTo((20, 20))(Image.fromarray(pixels))
    got = torch.from_numpy(np.array(squeezed)).permute(2, 0, 1).float()
    assert (got - expected).abs().max() <= 1


def test_resize_is_that_of_pil() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    bits = (pixels[:, :, 0] > 128).astype(np.uint8)
    image, masks = Image.fromarray(pixels), tv_tensors.Mask(torch.from_numpy(bits))
    for shorter in (20, 61):
        resized, bitmap = ResizeShorterSide(shorter, 1000)(image, masks)
        expected = image.resize(resized.size, Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(np.asarray(resized), np.asarray(expected))
        nearest = Image.fromarray(bits).resize(resized.size, Image.Resampling.NEAREST)
        np.testing.assert_array_equal(bitmap.numpy(), np.asarray(nearest))


def test_integers_are_resized_exactly() -> None:
    """Each axis by itself, as its pixels are numbered; float32 cannot hold these numbers."""
    rows, columns = np.mgrid[:9, :7].astype(np.int32)
    first = 2**30 + 1
    for resize in (ResizeShorterSide(5, 1000), ResizeShorterSide(23, 1000), ResizeTo((4, 30))):
        image, numbers = resize(
            Image.fromarray(rows.astype(np.uint8)),
            tv_tensors.Mask(torch.from_numpy(first + 100 * rows + columns)),
        )
        width, height = image.size
        row = ((np.arange(height) + 0.5) * 9 / height).astype(int)[:, None]
        column = ((np.arange(width) + 0.5) * 7 / width).astype(int)
        np.testing.assert_array_equal(numbers, first + 100 * row + column)


def test_boxes_scale_with_the_image() -> None:
    _, shapes = ResizeShorterSide(40, 1000)(*sample(20, 30, [[3.0, 4.0, 9.0, 14.0]]))
    assert shapes["boxes"].tolist() == [[6, 8, 18, 28]]
    assert shapes["boxes"].canvas_size == (40, 60)
    assert shapes["masks"].shape == (1, 40, 60)
    assert shapes["semantic"].shape == (40, 60)


def test_no_instances() -> None:
    everything = train_transforms(shorter=40, longer_max=100, flip=1, vertical_flip=1, transpose=1)
    _, shapes = everything(*sample(20, 30, []))
    assert shapes["boxes"].shape == (0, 4)
    assert shapes["masks"].shape == (0, 60, 40)


def test_several_sizes_are_drawn_evenly() -> None:
    torch.manual_seed(0)
    resize = ResizeShorterSide([20, 40, 60], 1000)
    heights = [resize(Image.new("RGB", (30, 20))).height for _ in range(300)]
    assert {h: heights.count(h) > 70 for h in heights} == {20: True, 40: True, 60: True}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(4, 30),
    width=st.integers(4, 30),
    data=st.data(),
)
def test_image_masks_and_boxes_stay_together(seed: int, height: int, width: int, data) -> None:
    """After any mix of flips and transposes the box still is the tight box of its mask."""
    x = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    y = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    turn = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.5),
            v2.RandomApply([Transpose()], 0.5),
        ]
    )
    torch.manual_seed(seed)
    image, shapes = turn(
        *sample(height, width, [[float(x[0]), float(y[0]), float(x[1]), float(y[1])]])
    )
    red = torch.from_numpy(np.asarray(image)[:, :, 0] > 0)
    assert torch.equal(red, shapes["masks"][0] > 0)
    assert torch.equal(shapes["masks"][0], shapes["semantic"])
    rows, columns = np.nonzero(shapes["masks"][0].numpy())
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert shapes["boxes"].tolist() == [tight]
    assert shapes["boxes"].canvas_size == (image.height, image.width)


def test_flips_and_transpose_reach_all_eight_orientations() -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    turn = train_transforms(shorter=2, longer_max=2, flip=0.5, vertical_flip=0.5, transpose=0.5)
    torch.manual_seed(0)
    assert len({turn(image).tobytes() for _ in range(100)}) == 8


ssd_shapes = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20)),
    min_size=1,
    max_size=4,
).map(lambda found: [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h in found])


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), boxes=ssd_shapes)
def test_crops_hold_the_objects_whose_centre_is_inside(seed: int, boxes: list[list[float]]) -> None:
    """Against the crop as it is read off the picture, which has its coordinates in its colours."""
    rows, columns = np.mgrid[:50, :60].astype(np.uint8)
    image = Image.fromarray(np.stack([rows, columns, rows * 0], axis=2))
    _, shapes = sample(50, 60, boxes)
    shapes["crowds"] = shapes["boxes"][:1].clone()  # another number of them
    shapes["crowds"] = tv_tensors.wrap(shapes["crowds"], like=shapes["boxes"])
    torch.manual_seed(seed)
    cropped, found = RandomCentreCrop()(image, shapes)
    pixels = np.asarray(cropped)
    top, left = (int(v) for v in pixels[0, 0, :2])
    height, width = pixels.shape[:2]
    if cropped.size == image.size:
        assert found["boxes"].tolist() == boxes
        return
    assert 0.3 * 50 - 1 <= height <= 50
    assert 0.3 * 60 - 1 <= width <= 60
    assert 0.5 <= width / height <= 2
    inside = []
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        inside.append(left < x < left + width and top < y < top + height)
        expected = np.clip(
            [x1 - left, y1 - top, x2 - left, y2 - top], 0, [width, height, width, height]
        )
        assert found["boxes"][number].tolist() == (expected * inside[-1]).tolist()
    assert any(inside)
    assert found["crowds"].tolist() == found["boxes"][:1].tolist()
    whole = shapes["masks"][:, top : top + height, left : left + width]
    assert torch.equal(found["masks"].as_subclass(torch.Tensor), whole.as_subclass(torch.Tensor))
    assert found["semantic"].shape == (height, width)


def test_one_image_in_six_is_not_cropped() -> None:
    torch.manual_seed(0)
    image, shapes = sample(40, 40, [[0.0, 0.0, 40.0, 40.0]])
    sizes = [RandomCentreCrop()(image, shapes)[0].size for _ in range(600)]
    assert 70 < sizes.count((40, 40)) < 130  # 100 expected; a crop of full size is rare


def test_colours_vary_and_channels_keep_their_places() -> None:
    torch.manual_seed(0)
    image = Image.new("RGB", (4, 4), (200, 90, 30))
    seen = {RandomColours()(image).getpixel((0, 0)) for _ in range(200)}
    assert len(seen) > 100
    # No brightness, contrast, saturation or hue within SSD's ranges turns this red into a blue.
    assert all(r >= g and r >= b for r, g, b in seen)  # type: ignore[misc]


def test_ssd_augmentation_keeps_image_masks_and_boxes_together() -> None:
    """A square of one colour on the mean colour: where it is seen, the mask is."""
    ssd = train_transforms(shorter=9, longer_max=9, fixed_size=(100, 100), flip=0.5, ssd=True)
    image, shapes = sample(60, 80, [[20.0, 10.0, 60.0, 50.0]])
    pixels = np.asarray(image).copy()
    pixels[shapes["semantic"].numpy() == 0] = (124, 117, 104)
    shares = []
    for seed in range(30):
        torch.manual_seed(seed)
        seen, found = ssd(Image.fromarray(pixels), shapes)
        assert seen.size == (100, 100)
        mask = found["masks"][0].numpy() > 0
        shares.append(mask.mean())
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found["boxes"][0].numpy(), tight, atol=1)
        assert np.array_equal(mask, found["semantic"].numpy() > 0)
        # Red and blue without green: its green is the lowest channel whatever happens to colours.
        array = np.asarray(seen).astype(int)
        square = array[:, :, 0] - array[:, :, 1] > 60
        assert (square != mask).mean() < 0.06
    assert min(shares) < 0.05 < 0.3 < max(shares)  # expanded and cropped


def test_ssd_augmentation_of_an_image_without_instances() -> None:
    ssd = train_transforms(shorter=9, longer_max=9, fixed_size=(50, 50), ssd=True)
    image, shapes = sample(20, 30, [])
    shapes["crowds"] = shapes["boxes"]
    for seed in range(5):
        torch.manual_seed(seed)
        _, found = ssd(image, shapes)
        assert found["masks"].shape == (0, 50, 50)
        assert found["boxes"].shape == found["crowds"].shape == (0, 4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), boxes=ssd_shapes, crop=st.integers(8, 70))
def test_a_random_crop_clips_what_it_cuts(seed: int, boxes: list[list[float]], crop: int) -> None:
    """Against the crop as it is read off the picture, which has its coordinates in its colours."""
    rows, columns = np.mgrid[:50, :60].astype(np.uint8)
    image = Image.fromarray(np.stack([rows, columns, rows * 0 + 200], axis=2))
    _, shapes = sample(50, 60, boxes)
    torch.manual_seed(seed)
    cropped, found = train_transforms(crop=crop, flip=0)(image, shapes)
    pixels = np.asarray(cropped)
    assert pixels.shape[:2] == (crop, crop)
    inside = pixels[:, :, 2] == 200  # the border has the mean colour
    assert inside.sum() == min(crop, 50) * min(crop, 60)
    where = np.argwhere(inside)[0]
    top, left = pixels[tuple(where)][:2].astype(int) - where  # of the crop in the image
    for box, mask, (x1, y1, x2, y2) in zip(found["boxes"], found["masks"], boxes, strict=True):
        clipped = np.clip(np.array([x1 - left, y1 - top, x2 - left, y2 - top]), 0, crop)
        np.testing.assert_array_equal(box, clipped)
        expected = np.zeros((60, 70), np.uint8)
        expected[int(y1) : int(y2), int(x1) : int(x2)] = 1
        shown = np.zeros((crop, crop), np.uint8)
        shown[inside] = expected[:50, :60][pixels[inside][:, 0], pixels[inside][:, 1]]
        np.testing.assert_array_equal(mask, shown)


def test_without_a_size_images_keep_theirs() -> None:
    image, shapes = sample(20, 30, [[3.0, 4.0, 9.0, 14.0]])
    same, found = train_transforms(flip=0)(image, shapes)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(image))
    assert found["boxes"].tolist() == [[3, 4, 9, 14]]


def test_inverted_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    found = train_transforms(flip=0, invert=1)(Image.fromarray(pixels))
    np.testing.assert_array_equal(np.asarray(found), 255 - pixels)


def test_brightness_and_contrast_stay_in_their_ranges() -> None:
    """Brightness multiplies all pixels alike, contrast their distance from the mean."""
    torch.manual_seed(0)
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    brighter = [
        np.asarray(train_transforms(flip=0, brightness=0.3)(grey))[0, 0, 0] for _ in range(60)
    ]
    assert 70 <= min(brighter) < 85
    assert 115 < max(brighter) <= 130
    pair = Image.fromarray(np.repeat(np.uint8([[[80], [120]]]), 3, axis=2))
    for _ in range(60):
        low, high = np.asarray(train_transforms(flip=0, contrast=0.5)(pair))[0, :, 0].astype(int)
        assert 20 - 2 <= high - low <= 60 + 2
        assert abs(low + high - 200) <= 2


def test_half_of_the_images_are_blurred_up_to_a_width() -> None:
    """A blurred impulse has the variance of the Gaussian, and keeps its sum."""
    torch.manual_seed(0)
    pixels = np.zeros((41, 41, 3), np.uint8)
    pixels[20] = 255  # a line, whose blurred profile is far from the steps of eight bits
    widths = []
    for _ in range(80):
        blurred = np.asarray(train_transforms(flip=0, blur=2.0)(Image.fromarray(pixels)))
        profile = blurred[:, 20, 0].astype(float)
        assert abs(profile.sum() - 255) < 8
        widths.append(np.sqrt((profile * (np.arange(41) - 20) ** 2).sum() / profile.sum()))
    sharp = sum(width == 0 for width in widths)
    assert 20 < sharp < 60  # small widths leave the line as it is
    assert 1.5 < max(widths) <= 2.05
