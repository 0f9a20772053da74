from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from b2inst.modules.boundary_diffusion import BoundaryDiffusion
from b2inst.modules.refinement import ConvRefinement, InTurn


def logits(seed: int = 0) -> Tensor:
    return torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(seed))


def test_convolutions_change_nothing_at_first() -> None:
    torch.testing.assert_close(ConvRefinement()(logits(), None), logits(), rtol=0, atol=0)


def test_convolutions_are_those_of_scipy() -> None:
    refinement = ConvRefinement(channels=2)
    weights = dict(refinement.named_parameters())
    generator = torch.Generator().manual_seed(1)
    for parameter in weights.values():
        parameter.data = torch.randn(parameter.shape, generator=generator)

    def layer(maps: list[np.ndarray], i: int) -> list[np.ndarray]:
        kernels = weights[f"convs.{i}.weight"].detach().double().numpy()
        biases = weights[f"convs.{i}.bias"].detach().double().numpy()
        return [
            sum(ndimage.correlate(m, k, mode="constant") for m, k in zip(maps, kernel, strict=True))
            + bias
            for kernel, bias in zip(kernels, biases, strict=True)
        ]

    after = refinement(logits(), None).detach()
    for before, found in zip(logits().double().numpy(), after, strict=True):
        maps = [np.maximum(m, 0) for m in layer([before], 0)]
        maps = [np.maximum(m, 0) for m in layer(maps, 2)]
        np.testing.assert_allclose(found, before + layer(maps, 4)[0], rtol=1e-4, atol=1e-4)


def test_one_takes_what_the_other_has_made() -> None:
    diffusion, convs = BoundaryDiffusion(steps=3), ConvRefinement(channels=2)
    for parameter in convs.parameters():
        parameter.data += 0.1
    boundary = logits(2)
    both = InTurn([diffusion, convs])
    with torch.no_grad():
        after = both(logits(), boundary)
        torch.testing.assert_close(after, convs(diffusion(logits(), boundary), boundary))
        *earlier, last = both.states(logits(), boundary)
        torch.testing.assert_close(last, after)
        assert len(earlier) == 3  # the steps of the diffusion
        torch.testing.assert_close(earlier[-1], diffusion(logits(), boundary))
