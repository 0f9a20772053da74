"""What B2Inst adds to a basis-based segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from b2inst.modules.basis_head import BasisHead
from b2inst.modules.basis_predictor import BasisPredictor
from b2inst.modules.boundary_basis import BoundaryBasis, BoundarySupervision
from b2inst.modules.boundary_loss import HolisticBoundaryLoss, RoIBoundaryLoss


def with_boundary(
    basis_head: BasisPredictor,
    *,
    in_channels: int,
    branch_channels: int,
    branch_convs: int,
    pyramid_strides: Sequence[int],
    fused: bool = False,
    local: bool = False,
    as_basis: bool = True,
    detach: bool = True,
    make_branch: Callable[..., BasisPredictor] = BasisHead,
    **losses: Any,
) -> BoundarySupervision:
    """Add a supervised boundary to a basis head (paper §4.1).

    The defaults are design (e) of Table 2, the holistic boundary basis. The others: (a) ``local``
    and not ``as_basis``; (b) ``fused`` and not ``as_basis``; (c) ``fused``; (d) not ``as_basis``.

    Args:
        basis_head: the baseline's.
        in_channels: of the features.
        branch_channels: width of the boundary's own branch; 0 shares the basis head, whose last
            map then is the boundary.
        branch_convs: convolutions of that branch.
        pyramid_strides: levels a fused branch reads, the finest first; a single one reads that.
        fused: the branch reads several levels of the pyramid, summed, instead of the finest.
        local: the loss is taken in each instance's box, to its own boundary, instead of over the
            image.
        as_basis: the boundary joins the bases that masks are composed of.
        detach: the mask loss does not bend the boundary through its use as a basis.
        make_branch: what the branch is, by the arguments of ``BasisHead``; its grid must be that of
            the bases.
        losses: weights, and the RoI size where local, of ``b2inst.modules.boundary_loss``.
    """
    branch = None
    if branch_channels:
        branch = make_branch(
            in_channels=in_channels,
            num_bases=1,
            strides=pyramid_strides if fused else pyramid_strides[:1],
            channels=branch_channels,
            num_convs=branch_convs,
        )
    elif fused:
        raise ValueError("fused needs a branch of the boundary's own: give branch_channels")
    criterion = (RoIBoundaryLoss if local else HolisticBoundaryLoss)(**losses)
    if as_basis:
        return BoundaryBasis(
            basis_head=basis_head, branch=branch, criterion=criterion, detach=detach
        )
    return BoundarySupervision(basis_head=basis_head, branch=branch, criterion=criterion)
