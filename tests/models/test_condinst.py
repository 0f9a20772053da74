from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.boundary_basis import BoundaryBasis
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.fcos_head import FCOSHead
from b2inst.structures import Targets

Build = Callable[..., BasisSegmenter]
Picture = Callable[..., np.ndarray]


def parameters(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_is_as_large_as_the_published_one() -> None:
    """Millions of parameters as condinst_facts.md counts them; frozen norms are no parameters."""
    with torch.device("meta"):
        model = create_model("condinst-r50", num_classes=80, frozen_norm=True)
    head = model.instance_head
    assert isinstance(head, FCOSHead)
    assert parameters(model.backbone) == pytest.approx(27.32, abs=0.06)
    assert parameters(head) - parameters(head.coefficients) == pytest.approx(4.92, abs=0.005)
    assert parameters(head.coefficients) == pytest.approx(0.39, abs=0.005)
    assert parameters(model.basis_head) == pytest.approx(1.48, abs=0.005)


def test_the_boundary_is_one_more_input_of_the_dynamic_filters() -> None:
    with torch.device("meta"):
        plain = create_model("condinst-r50", num_classes=80)
        full = create_model("b2inst-condinst-r50", num_classes=80)
    assert isinstance(full.basis_head, BoundaryBasis)
    assert full.basis_head.num_bases == plain.basis_head.num_bases + 1
    assert full.assembler.num_coefficients == plain.assembler.num_coefficients + 8
    assert isinstance(full.assembler, DynamicMaskHead)
    assert full.assembler.shapes[0] == (8, 2 + 9)


def test_a_semantic_head_only_where_asked() -> None:
    with torch.device("meta"):
        with_, without = (
            create_model("condinst-r50", num_classes=80, semantic=semantic).state_dict()
            for semantic in (True, False)
        )
    added = {name for name in with_ if name not in without}
    assert {name.split(".")[1] for name in added} == {"auxiliary"}
    assert set(without) <= set(with_)


def test_shared_parts_start_from_equal_weights_whatever_else_there_is() -> None:
    def weights(name: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        state = create_model(name, num_classes=4).state_dict()
        return {k.replace("basis_head.basis_head", "basis_head"): v for k, v in state.items()}

    plain, full = weights("condinst-tiny"), weights("b2inst-condinst-tiny")
    shared = [name for name in plain if not name.startswith("instance_head.coefficients")]
    assert all(plain[name].equal(full[name]) for name in shared)


@pytest.mark.parametrize("name", ["condinst-tiny", "b2inst-condinst-tiny"])
class TestTiny:
    def test_losses_have_names_and_reach_every_parameter(
        self, tiny: Build, make_targets: Callable[..., Targets], name: str
    ) -> None:
        model = tiny(name).train()
        added = {"boundary_bce", "boundary_dice", "iou_score", "boundary_score"}
        expected = {"class", "box", "centerness", "mask"} | (
            added if name.startswith("b2inst-") else set()
        )
        boxes = [(0, 0, 30, 30), (20, 10, 80, 96), (90, 90, 96, 96), (50, 60, 51, 61)]
        targets = [make_targets((96, 96), boxes), make_targets((96, 96), [(0, 0, 96, 96)])]
        generator = torch.Generator().manual_seed(0)
        images = list(torch.randint(256, (2, 3, 96, 96), generator=generator, dtype=torch.uint8))
        losses = model(images, targets)
        assert set(losses) == {f"loss_{part}" for part in expected}
        assert all(value.isfinite() and value > 0 for value in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert [n for n in without if "fpn.layer_blocks.3" not in n] == []

    def test_images_without_objects(
        self, tiny: Build, make_targets: Callable[..., Targets], name: str
    ) -> None:
        model = tiny(name).train()
        images = [torch.zeros(3, 96, 96, dtype=torch.uint8)] * 2
        losses = model(images, [make_targets((96, 96), [])] * 2)
        assert losses["loss_mask"] == losses["loss_box"] == 0
        torch.stack(list(losses.values())).sum().backward()
        gradients = [p.grad for p in model.parameters()]
        assert all(g is None or g.isfinite().all() for g in gradients)

    def test_a_batch_gives_what_single_images_give(
        self, tiny: Build, picture: Picture, name: str
    ) -> None:
        model = tiny(name)
        images = [picture(96, 96, seed) for seed in range(3)]
        for image, found in zip(images, model.predict(images), strict=True):
            (alone,) = model.predict([image])
            distance = torch.cdist(found.boxes, alone.boxes, p=torch.inf)
            distance[found.labels[:, None] != alone.labels] = torch.inf
            alone = alone[distance.argmin(1)]
            torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-4)
            assert (found.masks == alone.masks).float().mean() > 0.99

    def test_images_of_several_sizes_in_one_call(
        self, tiny: Build, picture: Picture, name: str
    ) -> None:
        sizes = [(96, 96), (40, 200), (33, 31), (75, 120)]
        for found, size in zip(
            tiny(name).predict([picture(*s) for s in sizes]), sizes, strict=True
        ):
            assert found.masks.shape == (len(found), *size)
            assert len(found) > 0

    def test_nothing_found(self, tiny: Build, picture: Picture, name: str) -> None:
        model = tiny(name)
        torch.nn.init.constant_(model.instance_head.class_logits.bias, -50)
        (found,) = model.predict([picture(75, 120)])
        assert found.masks.shape == (0, 75, 120)
