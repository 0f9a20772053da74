"""What B2Inst adds to a basis-based segmenter."""

from __future__ import annotations

from typing import Any

from b2inst.modules.basis_head import BasisHead
from b2inst.modules.boundary_basis import BoundaryBasis


def with_boundary(
    basis_head: BasisHead, *, in_channels: int, branch_channels: int, **options: Any
) -> BoundaryBasis:
    """Add the holistic boundary basis to a basis head (paper §4.1, design (e) of Table 2).

    Args:
        basis_head: the baseline's.
        in_channels: of the features.
        branch_channels: width of the boundary's own branch; 0 shares the basis head, whose last
            map then is the boundary.
        options: of ``BoundaryBasis``.
    """
    if not branch_channels:
        return BoundaryBasis(basis_head=basis_head, **options)
    branch = BasisHead(
        in_channels=in_channels,
        num_bases=1,
        strides=basis_head.strides[:1],
        channels=branch_channels,
        num_convs=len(basis_head.convs),
    )
    return BoundaryBasis(basis_head=basis_head, branch=branch, **options)
