"""The script that exchanges the boundaries of trained models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from b2inst.data import CocoIndex, write_scenes
from b2inst.experiments import load_profile, load_table
from b2inst.structures import Bases


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("other_boundaries")


@pytest.fixture
def bases() -> Bases:
    """Of two images, the boundary being the last of three."""
    maps = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    return Bases(maps=maps, stride=4, boundary_logits=maps[:, 2:])


def test_one_use_is_exchanged_and_the_other_stays(script: ModuleType, bases: Bases) -> None:
    other = torch.ones(2, 1, 24, 24)
    as_basis = script.exchanged(bases, other, "basis")
    assert torch.equal(as_basis.maps[:, 2:], other)
    assert torch.equal(as_basis.maps[:, :2], bases.maps[:, :2])
    assert torch.equal(as_basis.boundary_logits, bases.boundary_logits)
    as_gate = script.exchanged(bases, other, "gate")
    assert torch.equal(as_gate.maps, bases.maps)
    assert torch.equal(as_gate.boundary_logits, other)


def test_no_boundary_adds_nothing_and_stops_nothing(script: ModuleType, bases: Bases) -> None:
    assert not script.nothing("basis")(bases).any()
    assert script.nothing("gate")(bases).sigmoid().max() < 1e-6


def test_another_images_boundary_is_of_no_image_its_own(script: ModuleType, bases: Bases) -> None:
    assert torch.equal(script.of_another(bases), bases.boundary_logits.flip(0))


def test_the_true_boundaries_come_image_by_image(
    script: ModuleType, bases: Bases, tmp_path: Path
) -> None:
    write_scenes(tmp_path, split="val", images=2, size=96, seed=5)
    index = CocoIndex.load(tmp_path / "annotations/instances_val.json", tmp_path / "val")
    for shown, image in zip(
        script.true_boundary(index, two_sided=False)(bases), index.images, strict=True
    ):
        covered = torch.zeros(96, 96, dtype=torch.bool)
        for annotation in index.annotations[image.id]:
            covered |= torch.from_numpy(annotation.mask()).bool()
        inside = covered.view(24, 4, 24, 4).any(3).any(1)
        marked = shown[0] > 0
        assert marked.any()
        assert not (marked & ~inside).any()  # the paper's target is on the inner side
        assert set(shown.unique().tolist()) == {-4.0, 4.0}


def test_what_is_exchanged_is_in_the_rows(script: ModuleType) -> None:
    rows = load_table("beyond").run_specs(load_profile("beyond"), (0,))
    assert {name for name, _ in script.EXCHANGED} <= rows.keys()
    assert {use for _, use in script.EXCHANGED} == script.NOTHING.keys()
