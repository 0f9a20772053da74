from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from b2inst.models import BasisSegmenter, mask_score
from b2inst.models.segmenter import rgb_array
from b2inst.ops.masks import encode_rle
from b2inst.structures import Instances, Targets

Build = Callable[..., BasisSegmenter]
Picture = Callable[..., np.ndarray]

scores = st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3)


@given(scores, scores, scores)
def test_mask_score_is_equation_2(cls: list[float], iou: list[float], edge: list[float]) -> None:
    expected = [s * (i * b) ** 0.5 for s, i, b in zip(cls, iou, edge, strict=True)]
    got = mask_score(torch.tensor(cls), {"iou": torch.tensor(iou), "boundary": torch.tensor(edge)})
    assert got.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_mask_score_of_fewer_branches() -> None:
    cls, iou = torch.tensor([0.5, 0.8]), torch.tensor([0.25, 1.0])
    assert mask_score(cls, {"iou": iou}).tolist() == pytest.approx([0.125, 0.8])
    assert mask_score(cls, {}).tolist() == cls.tolist()


def check(instances: Instances, height: int, width: int) -> None:
    n = len(instances)
    assert instances.boxes.shape == (n, 4)
    assert instances.masks.shape == (n, height, width)
    dtypes = [t.dtype for t in (instances.boxes, instances.scores, instances.class_scores)]
    assert dtypes == [torch.float32] * 3
    assert instances.labels.dtype == torch.int64
    assert instances.masks.dtype == torch.bool
    assert instances.class_names == ("a", "b", "c")
    for quality in (instances.iou_scores, instances.boundary_scores):
        assert quality is not None
        assert quality.shape == (n,)
        assert quality.dtype == torch.float32
        assert ((quality >= 0) & (quality <= 1)).all()


def test_instances_are_ranked_by_equation_2_in_the_images_pixels(
    tiny: Build, picture: Picture
) -> None:
    (found,) = tiny().predict([picture(75, 120)])
    assert len(found) >= 15
    check(found, 75, 120)
    assert found.iou_scores is not None
    assert found.boundary_scores is not None
    expected = found.class_scores * (found.iou_scores * found.boundary_scores).sqrt()
    torch.testing.assert_close(found.scores, expected)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    x1, y1, x2, y2 = found.boxes.unbind(1)
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= 120).all()
    assert (y2 <= 75).all()
    assert ((x2 > x1) & (y2 > y1)).all()


def test_nothing_found_keeps_shapes_and_types(tiny: Build, picture: Picture) -> None:
    model = tiny()
    torch.nn.init.constant_(model.instance_head.class_logits.bias, -50)
    results = model.predict([picture(75, 120), picture(96, 96)])
    assert [len(r) for r in results] == [0, 0]
    check(results[0], 75, 120)
    check(results[1], 96, 96)
    assert results[0].names == []
    assert encode_rle(results[0].masks) == []
    assert model.predict([]) == []


def test_a_batch_gives_what_single_images_give(tiny: Build, picture: Picture) -> None:
    model = tiny()
    images = [picture(96, 96, seed) for seed in range(3)]
    together = model.predict(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = model.predict([image])
        # The last bits differ, and with them the order of almost equal scores.
        distance = torch.cdist(found.boxes, alone.boxes, p=torch.inf)
        distance[found.labels[:, None] != alone.labels] = torch.inf
        alone = alone[distance.argmin(1)]
        torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-4)
        assert found.labels.equal(alone.labels)
        # Beyond the padded image a mask is exactly 0.5, where the last bit decides as well.
        assert (found.masks == alone.masks).float().mean() > 0.99


def test_images_of_several_sizes_in_one_call(tiny: Build, picture: Picture) -> None:
    sizes = [(96, 96), (40, 200), (33, 31), (480, 640)]
    model, images = tiny(), [picture(*size) for size in sizes]
    for found, image in zip(model.predict(images), images, strict=True):
        check(found, *image.shape[:2])
        (alone,) = model.predict([image])
        assert found.scores.equal(alone.scores)
        assert found.masks.equal(alone.masks)


def test_arrays_pil_images_and_files_are_the_same(
    tiny: Build, picture: Picture, tmp_path: Path
) -> None:
    model, array = tiny(), picture(96, 96)
    Image.fromarray(array).save(tmp_path / "image.png")
    given = array, Image.fromarray(array), tmp_path / "image.png", str(tmp_path / "image.png")
    results = [model.predict([one])[0] for one in given]  # a batch is rounded otherwise
    for found in results[1:]:
        assert found.scores.equal(results[0].scores)
        assert found.masks.equal(results[0].masks)


def test_images_are_turned_upright_and_made_rgb(picture: Picture, tmp_path: Path) -> None:
    array = picture(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(rgb_array(tmp_path / "turned.png"), np.rot90(array, -1))
    grey = rgb_array(Image.fromarray(array[:, :, 0]))
    assert np.array_equal(grey, array[:, :, :1].repeat(3, 2))


def test_who_resizes_images_themselves_gets_the_same(tiny: Build, picture: Picture) -> None:
    model, images = tiny(), [picture(75, 120), picture(200, 130)]
    resized = [
        torch.from_numpy(
            np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        ).permute(2, 0, 1)
        for image, size in zip(images, [(154, 96), (96, 148)], strict=True)
    ]
    for one, size, expected in zip(
        resized, [(75, 120), (200, 130)], model.predict(images), strict=True
    ):
        (instances,) = model.segment([one], [size])
        assert len(instances) > 0
        assert instances.scores.equal(expected.scores)
        assert instances.masks.equal(expected.masks)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(tiny: Build, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="give H×W×3 uint8 in RGB order"):
        tiny().predict([wrong])


@pytest.mark.parametrize("wrong", [[np.zeros((8, 8, 3), np.uint8)], None, 3, b"a.png"])
def test_what_is_no_image_is_refused(tiny: Build, wrong: Any) -> None:
    message = f"image of type {type(wrong).__name__}; give an array, a tensor, a PIL image or a"
    calls = [tiny().explain, lambda image: tiny().predict([image])]
    for call in calls if isinstance(wrong, list) else [*calls, tiny().predict]:
        with pytest.raises(ValueError, match=message):
            call(wrong)


def test_empty_tensors_are_refused(tiny: Build) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 0, 8\) .* give 3×H×W uint8"):
        tiny().predict([torch.zeros(3, 0, 8, dtype=torch.uint8)])


def test_no_prediction_in_training_mode(tiny: Build, picture: Picture) -> None:
    with pytest.raises(RuntimeError, match=r"call model\.eval\(\)"):
        tiny().train().predict([picture()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_of_parameters_are_told(
    tiny: Build, picture: Picture, dtype: torch.dtype
) -> None:
    with pytest.raises(ValueError, match=f"the model is {dtype}; call model.float"):
        tiny().to(dtype).predict(picture())


def test_explanation_shows_what_lies_behind(tiny: Build, picture: Picture) -> None:
    model, image = tiny(), picture(75, 120)  # looked at as 96×154, padded to 96×160
    explained = model.explain(image)
    (found,) = model.predict([image])
    assert explained.instances.masks.equal(found.masks)
    assert np.array_equal(explained.image, image)
    assert len(explained.detections) == len(found)
    assert explained.bases.maps.shape == (1, 5, 48, 80)
    assert explained.boundary is not None
    assert explained.boundary.shape == (48, 77)
    # Detections, in network pixels, are in the order of the instances.
    scale = torch.tensor([120 / 154, 75 / 96]).repeat(2)
    limit = torch.tensor([120.0, 75, 120, 75])
    boxes = torch.minimum((explained.detections.boxes * scale).clamp(min=0), limit)
    torch.testing.assert_close(boxes, found.boxes)
    assert tiny("blendmask-tiny").explain(image).boundary is None


@pytest.mark.parametrize("stride", [1, 4])
def test_the_grid_of_bases_and_boundary_is_an_option(
    tiny: Build, picture: Picture, make_targets: Callable[..., Targets], stride: int
) -> None:
    model, image = tiny(basis_stride=stride, shorter=None), picture(64, 96)
    explained = model.explain(image)
    assert explained.bases.maps.shape == (1, 5, 64 // stride, 96 // stride)
    assert explained.boundary is not None
    assert explained.boundary.shape == (64 // stride, 96 // stride)
    check(explained.instances, 64, 96)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    losses = model.train()([pixels], [make_targets((64, 96), [(8, 8, 40, 40)])])
    assert all(value.isfinite() and value > 0 for value in losses.values())


class TestTraining:
    def images(self, count: int = 2) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        size = (3, 96, 96)
        return [
            torch.randint(256, size, generator=generator, dtype=torch.uint8) for _ in range(count)
        ]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("blendmask-tiny", {"class", "box", "centerness", "mask"}),
            (
                "b2inst-blendmask-tiny",
                {"class", "box", "centerness", "mask", "boundary_bce", "boundary_dice"}
                | {"iou_score", "boundary_score"},
            ),
        ],
    )
    def test_losses_have_names_and_reach_every_parameter(
        self, tiny: Build, make_targets: Callable[..., Targets], name: str, expected: set[str]
    ) -> None:
        model = tiny(name).train()
        boxes = [(0, 0, 30, 30), (20, 10, 80, 96), (90, 90, 96, 96), (50, 60, 51, 61)]
        targets = [make_targets((96, 96), boxes), make_targets((96, 96), [(0, 0, 96, 96)])]
        losses = model(self.images(), targets)
        assert set(losses) == {f"loss_{part}" for part in expected}
        assert all(value.isfinite() and value > 0 for value in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # A coarsest level without positives is the only thing allowed to learn nothing.
        assert [n for n in without if "fpn.layer_blocks.3" not in n] == []

    def test_images_without_objects(
        self, tiny: Build, make_targets: Callable[..., Targets]
    ) -> None:
        model = tiny().train()
        losses = model(self.images(), [make_targets((96, 96), [])] * 2)
        for part in ("box", "centerness", "mask", "iou_score", "boundary_score"):
            assert losses[f"loss_{part}"] == 0
        torch.stack(list(losses.values())).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        assert all(g is not None and g.isfinite().all() for g in gradients.values())

    def test_rating_a_mask_does_not_bend_it(
        self, tiny: Build, make_targets: Callable[..., Targets]
    ) -> None:
        model = tiny().train()
        losses = model(self.images(), [make_targets((96, 96), [(10, 10, 60, 60)])] * 2)
        (losses["loss_iou_score"] + losses["loss_boundary_score"]).backward()
        assert model.instance_head.coefficients.weight.grad is None
        assert all(p.grad is None for p in model.basis_head.parameters())
        assert any(p.grad is not None for p in model.backbone.parameters())

    def test_each_object_is_rated_by_the_mask_of_its_most_central_position(
        self, tiny: Build, make_targets: Callable[..., Targets], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny().train()
        assert model.scoring_head is not None
        shown: dict[str, list[torch.Tensor]] = {}
        head_loss, assemble = model.instance_head.loss, model.assembler.assemble

        def loss(outputs, targets):  # type: ignore[no-untyped-def]
            losses, positives = head_loss(outputs, targets)
            shown["positives"] = [positives.coefficients, positives.weights, positives.target_index]
            return losses, positives

        def record(bases, boxes, coefficients):  # type: ignore[no-untyped-def]
            shown["boxes"], shown["coefficients"] = boxes, [coefficients]
            return assemble(bases, boxes, coefficients)

        monkeypatch.setattr(model.instance_head, "loss", loss)
        monkeypatch.setattr(model.assembler, "assemble", record)
        one_pixel = (50, 60, 51, 61)  # no position lies within: it is not shown
        targets = [
            make_targets((96, 96), [(0, 0, 30, 30), one_pixel, (20, 10, 80, 96)]),
            make_targets((96, 96), [(5, 5, 90, 90)]),
        ]
        model(self.images(), targets)
        coefficients, weights, index = shown["positives"]
        best = [
            max((index == k).nonzero()[:, 0].tolist(), key=lambda i: weights[i]) for k in (0, 2, 3)
        ]
        assert [len(boxes) for boxes in shown["boxes"]] == [2, 1]
        chosen = shown["coefficients"][0]
        for row, i in zip(chosen, best, strict=True):
            same = [j for j in range(len(index)) if coefficients[j].equal(row)]
            assert weights[same[0]] == weights[i]
            assert index[same[0]] == index[i]
