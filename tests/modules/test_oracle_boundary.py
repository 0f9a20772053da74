from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from b2inst.modules.oracle_boundary import OracleBoundary
from b2inst.structures import Bases


def bases() -> Bases:
    return Bases(torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)), stride=4)


def block(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(24, 32, dtype=torch.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_the_boundary_of_the_true_masks_becomes_the_logits() -> None:
    truths = [torch.stack([block(4, 8, 16, 28)]), torch.zeros(0, 24, 32, dtype=torch.uint8)]
    found = OracleBoundary(logit=5)(bases(), truths)
    inside = np.zeros((6, 8), dtype=bool)
    inside[1:4, 2:7] = True  # the same block in cells of four pixels
    rim = inside & ~ndimage.binary_erosion(inside)
    assert found.boundary_logits is not None
    np.testing.assert_array_equal(found.boundary_logits[0, 0], np.where(rim, 5.0, -5.0))
    assert (found.boundary_logits[1] == -5).all()  # an image without objects
    torch.testing.assert_close(found.maps, bases().maps)


def test_it_may_mark_both_sides() -> None:
    found = OracleBoundary(two_sided=True)(bases(), [torch.stack([block(4, 8, 16, 28)])] * 2)
    inside = np.zeros((6, 8), dtype=bool)
    inside[1:4, 2:7] = True
    around = np.ones((3, 3))  # the Laplacian looks at eight neighbours
    both = ndimage.binary_dilation(inside, around) & ~ndimage.binary_erosion(inside, around)
    assert found.boundary_logits is not None
    np.testing.assert_array_equal(found.boundary_logits[0, 0] > 0, both)


def test_as_a_basis_it_is_the_last() -> None:
    found = OracleBoundary(as_basis=True)(bases(), [torch.stack([block(0, 0, 8, 8)])] * 2)
    assert found.maps.shape == (2, 4, 6, 8)
    assert found.boundary_logits is not None
    torch.testing.assert_close(found.maps[:, -1:], found.boundary_logits)
    torch.testing.assert_close(found.maps[:, :-1], bases().maps)
