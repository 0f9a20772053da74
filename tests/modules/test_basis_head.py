from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from b2inst.modules.basis_head import BasisHead, SemanticHead
from b2inst.structures import Targets


def features(batch: int = 2) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {8: (9, 14), 16: (5, 7), 32: (3, 4)}  # rounded up, as strided convolutions do
    return {s: torch.randn(batch, 6, *shape, generator=generator) for s, shape in shapes.items()}


@pytest.mark.parametrize(
    ("options", "size", "stride"),
    [({}, (18, 28), 4), ({"upsampling": 1}, (9, 14), 8), ({"upsampling": 4}, (36, 56), 2)],
)
def test_bases_lie_at_a_part_of_the_finest_stride(
    options: dict[str, int], size: tuple[int, int], stride: int
) -> None:
    head = BasisHead(in_channels=6, num_bases=5, channels=8, num_convs=1, **options)
    bases = head(features())
    assert bases.maps.shape == (2, 5, *size)
    assert bases.stride == stride
    assert bases.boundary_logits is None
    assert (bases.maps < 0).any()  # unbounded: no activation


def test_one_level_suffices() -> None:
    bases = BasisHead(in_channels=6, strides=(8,), channels=8, num_convs=0)(features())
    assert bases.maps.shape == (2, 4, 18, 28)


def test_levels_are_summed() -> None:
    """With branches that pass on what they get, constant levels add up."""
    head = BasisHead(in_channels=6, num_bases=6, channels=6, num_convs=0)
    head.refine = nn.ModuleList([nn.Identity()] * 3)
    head.upsampled_conv = nn.Identity()
    head.project = nn.Identity()
    levels = {s: torch.full_like(f, float(s)) for s, f in features().items()}
    torch.testing.assert_close(head(levels).maps, torch.full((2, 6, 18, 28), 8.0 + 16 + 32))


def test_plain_bases_have_no_loss_of_their_own(make_targets: Callable[..., Targets]) -> None:
    head = BasisHead(in_channels=6, channels=8)
    targets = [make_targets((72, 112), [])] * 2
    assert head.loss(features(), head(features()), targets) == {}


class TestSemanticHead:
    @pytest.fixture
    def head(self) -> SemanticHead:
        torch.manual_seed(0)
        return SemanticHead(in_channels=6, num_classes=4, channels=8)

    def test_knowing_nothing_costs_the_logarithm_of_the_number_of_classes(
        self, head: SemanticHead, make_targets: Callable[..., Targets]
    ) -> None:
        nn.init.zeros_(head.project.weight)
        nn.init.zeros_(head.project.bias)  # type: ignore[arg-type]
        targets = [make_targets((72, 112), [(0, 0, 50, 50)], [3])] * 2
        loss = head.loss(features(), targets)["loss_semantic"]
        assert loss.item() == pytest.approx(0.3 * math.log(5))

    def test_truth_is_the_corner_pixel_of_each_cell_and_padding_is_background(
        self, head: SemanticHead, make_targets: Callable[..., Targets]
    ) -> None:
        nn.init.zeros_(head.project.weight)
        with torch.no_grad():
            head.project.bias.copy_(torch.tensor([0.0, 0, 0, 0, 5]))  # type: ignore[union-attr]
        # 30×30 pixels of a batch padded to 72×112: cells 0..3 are in the image, the rest is not.
        target = make_targets((30, 30), [(5, 5, 25, 25)], [3])  # pixels 8, 16 and 24
        loss = head.loss(features(1), [target])["loss_semantic"]
        normaliser = math.log(math.exp(5) + 4)
        cells, hit = 9 * 14, 3 * 3
        expected = 0.3 * (hit * (normaliser - 5) + (cells - hit) * normaliser) / cells
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_no_say_in_the_bases(self, head: SemanticHead) -> None:
        basis_head = BasisHead(in_channels=6, channels=8, auxiliary=head).eval()
        before = basis_head(features()).maps
        for parameter in head.parameters():
            nn.init.constant_(parameter, 7)
        assert basis_head(features()).maps.equal(before)
