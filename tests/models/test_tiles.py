"""Tiles of an image, and that they show a model the same as the whole image does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from b2inst.models import BasisSegmenter, ModelError, create_model
from b2inst.models.tiles import OVERLAP, merge_tiles, spans
from b2inst.structures import Instances


@given(
    length=st.integers(1, 3000),
    side=st.integers(OVERLAP + 32, 1500),
    size=st.integers(1, OVERLAP),
    data=st.data(),
)
def test_every_object_is_whole_in_the_one_tile_that_it_is_taken_from(
    length: int, side: int, size: int, data: st.DataObject
) -> None:
    found = spans(length, side, 32)
    start = data.draw(st.integers(0, max(length - size, 0)))
    centre = (start + min(start + size, length)) / 2
    (own,) = [span for span in found if span.core_start <= centre < span.core_stop]
    assert own.start <= start
    assert min(start + size, length) <= own.stop
    assert all(span.start % 32 == 0 and span.stop - span.start <= side for span in found)
    assert (found[0].start, found[-1].stop) == (0, length)


def _local(name: str, **options: object) -> BasisSegmenter:
    """A small model that finds much in any image, without norms over the whole map."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=1, max_detections=2000, **options)
    assert isinstance(model, BasisSegmenter)
    for module in model.modules():
        for child_name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, child_name, nn.Identity())
    head = model.instance_head
    head.score_threshold = 0.0  # type: ignore[attr-defined]
    nn.init.normal_(head.class_logits.weight, std=0.5)  # type: ignore[union-attr, arg-type]
    if "yolact" not in name:
        nn.init.constant_(head.distances.bias, 2.0)  # type: ignore[union-attr, arg-type]
    return model.eval()


def _keys(found: Instances) -> list[tuple[float, ...]]:
    columns = torch.cat([found.boxes, found.labels[:, None].float()], dim=1).tolist()
    return [tuple(round(value, 2) for value in row) for row in columns]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b2inst-blendmask-tiny", {"shorter": None, "longer_max": None}),
        ("b2inst-condinst-tiny", {"shorter": None, "longer_max": None}),
        ("b2inst-yolact-tiny", {"keep_size": True, "size": 96}),
    ],
)
def test_tiles_and_whole_image_agree_away_from_the_seam(
    name: str, options: dict[str, object]
) -> None:
    """The seam is at 384; the border of a tile is felt up to half a receptive field inside it."""
    model = _local(name, head_strides=(8,) if "yolact" not in name else (8, 16, 32), **options)
    image = np.random.default_rng(0).integers(0, 256, (70, 768, 3), dtype=np.uint8)

    def found(tile: int | None, far: int) -> Instances:
        model.tile = tile
        (instances,) = model.predict([image])
        x = instances.boxes[:, 0::2].mean(1)
        width = instances.boxes[:, 2] - instances.boxes[:, 0]
        chosen = ((x < far) | (x > 768 - far)) & (width < 60)
        return instances[chosen]

    whole, tiled = found(None, 220), found(448, 220)
    assert len(whole) > 20
    known = {key: i for i, key in enumerate(_keys(tiled))}
    pairs = [(i, known[key]) for i, key in enumerate(_keys(whole)) if key in known]
    # Suppression passes on what happens at the seam, from box to box.
    assert len(pairs) > 0.95 * len(whole)
    rows, columns = map(list, zip(*pairs, strict=True))
    torch.testing.assert_close(whole.scores[rows], tiled.scores[columns], rtol=0, atol=1e-4)
    agree = (whole.masks[rows] == tiled.masks[columns]).float()  # masks may go on in other tiles
    for part in (slice(None, 220), slice(-220, None)):
        own = (whole.boxes[rows, 0] < 384) == (part.start is None)
        assert agree[own][:, :, part].mean(dim=(1, 2)).min() > 0.999


def test_small_images_are_one_tile() -> None:
    model = _local("blendmask-tiny", shorter=None, longer_max=None)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    (whole,) = model.predict([image])
    model.tile = 160
    (tiled,) = model.predict([image])
    assert torch.equal(whole.boxes, tiled.boxes)
    assert torch.equal(whole.masks, tiled.masks)


def test_models_that_resize_have_no_tiles() -> None:
    model = _local("blendmask-tiny")
    model.tile = 160
    with pytest.raises(ModelError, match="leave it out, or train a model with shorter=None"):
        model.predict([np.zeros((200, 300, 3), np.uint8)])


@pytest.mark.parametrize("side", [0, 10, 150])
def test_a_tile_no_larger_than_the_overlap_is_refused(side: int) -> None:
    model = _local("blendmask-tiny")
    with pytest.raises(ModelError, match=f"tile {side}: give 160 pixels or more, or None"):
        model.tile = side
    assert model.tile is None


def test_instances_come_to_their_places_and_the_best_remain() -> None:
    across = spans(320, 192, 32)
    (down,) = spans(20, 192, 32)
    assert [(span.start, span.core_stop) for span in across] == [(0, 128), (64, 192), (128, 320)]

    def instance(x: int, score: float) -> Instances:
        mask = torch.zeros(1, 20, 192, dtype=torch.bool)
        mask[0, 5:15, x : x + 10] = True
        box = torch.tensor([[x, 5.0, x + 10, 15.0]])
        one = torch.tensor([score])
        return Instances(box, one, one, torch.tensor([0]), mask, class_names=("a",))

    # Centres in the image: 65, 129, 261; and 133 + 64 = 197 of the middle one, not in its core.
    inside = [instance(60, 0.5), instance(60, 0.9), instance(128, 0.7)]
    found = [(down, a, i) for a, i in zip(across, inside, strict=True)]
    found.append((down, across[1], instance(128, 0.99)))
    assert merge_tiles(found, (20, 320), 9).boxes[:, 0].tolist() == [124, 256, 60]
    best = merge_tiles(found, (20, 320), 1)
    assert best.scores.tolist() == [pytest.approx(0.9)]
    assert best.boxes.tolist() == [[124, 5, 134, 15]]
    assert best.masks[0, 5:15, 124:134].all()
    assert best.masks.sum() == 100
    assert best.class_names == ("a",)
