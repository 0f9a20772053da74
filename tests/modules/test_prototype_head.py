from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from b2inst.modules.basis_heads import PrototypeHead
from b2inst.modules.semantic_heads import ClassMapHead


def features(side: int = 9) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {s: torch.randn(2, 6, side, side, generator=generator) for s in (8, 16)}


def test_is_the_published_sequence_of_layers() -> None:
    """yolact_facts.md §4, on our convolutions."""
    torch.manual_seed(0)
    head = PrototypeHead(in_channels=6, num_bases=4, channels=5)
    x = features()[8]
    for conv in head.convs:
        x = F.conv2d(x, conv.weight, conv.bias, padding=1).relu()  # type: ignore[arg-type]
    x = F.interpolate(x, size=(18, 18), mode="bilinear", align_corners=False).relu()
    x = F.conv2d(x, head.upsampled_conv.weight, head.upsampled_conv.bias, padding=1).relu()
    x = F.conv2d(x, head.project.weight, head.project.bias).relu()
    bases = head(features())
    torch.testing.assert_close(bases.maps, x)
    assert bases.maps.shape == (2, 4, 18, 18)
    assert bases.maps.min() == 0
    assert bases.maps.max() > 0
    assert bases.stride == 4


def test_norms_take_the_scale_of_the_features_away() -> None:
    head = PrototypeHead(in_channels=6, num_bases=4, channels=5, norm=torch.nn.BatchNorm2d)
    scaled = {stride: 100 * x for stride, x in features().items()}
    torch.testing.assert_close(head(scaled).maps, head(features()).maps, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_convs", [0, 2])
def test_cells_may_be_no_whole_number_of_pixels(num_convs: int) -> None:
    head = PrototypeHead(in_channels=6, num_bases=4, channels=5, cell=3.9, num_convs=num_convs)
    assert len(head.convs) == num_convs
    assert head(features()).stride == 3.9


def test_only_what_is_beside_the_prototypes_has_a_loss_here() -> None:
    plain = PrototypeHead(in_channels=6, channels=5)
    assert plain.loss(features(), plain(features()), []) == {}
    beside = PrototypeHead(
        in_channels=6, channels=5, auxiliary=ClassMapHead(in_channels=6, num_classes=3)
    )
    assert set(plain.state_dict()) < set(beside.state_dict())
