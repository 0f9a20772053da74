from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from b2inst.data import CocoIndex
from b2inst.models import BasisSegmenter, Explanation, create_model
from b2inst.structures import Bases
from b2inst.viz.choose import Choice
from b2inst.viz.draw import draw_heat
from b2inst.viz.qualitative import comparison_figure, true_boundary

CHOICES = [Choice(1, "largest gain", 0.1), Choice(4, "random, seed 0", None)]


class Model:
    """Predicts the same boundary everywhere, or none."""

    basis_head = None

    def __init__(self, logit: float | None, grid: tuple[int, int] = (20, 24)) -> None:
        self.logit = logit
        self.grid = grid

    def explain(self, image: np.ndarray) -> Explanation:
        padded = (1, 1, 32, 32)
        logits = None if self.logit is None else torch.full(padded, self.logit)
        bases = Bases(torch.zeros(padded), stride=image.shape[0] // self.grid[0])
        bases.boundary_logits = logits
        nothing: Any = None
        return Explanation(image, nothing, nothing, bases, content=self.grid)


def pictures(index: CocoIndex, models: dict[str, Model]) -> dict[str, list[np.ndarray]]:
    """Title of each column → its pictures from top to bottom."""
    axes = comparison_figure(index, CHOICES, {}, models, target=True).axes
    columns = [axis.get_title() for axis in axes if axis.get_title()]
    shown = [axis.get_images()[0].get_array() for axis in axes]
    return {
        title: [np.asarray(p) for p in shown[i :: len(columns)]] for i, title in enumerate(columns)
    }


@pytest.mark.parametrize(
    ("grid", "rows", "columns"),  # cells whose centres lie in the object, 8..28 and 4..24
    [((20, 24), slice(4, 14), slice(2, 12)), ((5, 6), slice(1, 3), slice(0, 3))],
)
def test_target_and_each_models_map_stand_beside_the_truth(
    index: CocoIndex, grid: tuple[int, int], rows: slice, columns: slice
) -> None:
    models = {"baseline": Model(None), "d": Model(-2.0, grid), "e": Model(3.0, grid)}
    found = pictures(index, models)
    assert list(found) == ["ground truth", "target", "boundary of\nd", "boundary of\ne"]
    size = found["ground truth"][0].shape[:2]
    square = np.zeros(grid, bool)
    square[rows, columns] = True
    edge = square & ~ndimage.binary_erosion(square, np.ones((3, 3)), border_value=1)
    expected = draw_heat(torch.from_numpy(edge).float(), size)
    assert (found["target"][0] == expected).all()
    assert (found["target"][1] == draw_heat(torch.zeros(grid), size)).all()
    assert (found["boundary of\ne"][0] == draw_heat(torch.full(grid, 3.0).sigmoid(), size)).all()
    assert (found["boundary of\nd"][0] != found["boundary of\ne"][0]).any()


def test_a_boundary_taught_on_both_sides_has_such_a_target(index: CocoIndex) -> None:
    square = torch.zeros((1, 40, 48))
    square[0, 8:28, 4:24] = 1
    for name, both in (("b2inst-blendmask-tiny", False), ("gated-blendmask-tiny", True)):
        model = create_model(name, num_classes=2, shorter=40, longer_max=48).eval()
        assert isinstance(model, BasisSegmenter)
        coarse = square[0, ::2, ::2].bool().numpy()
        edge = coarse & ~ndimage.binary_erosion(coarse, np.ones((3, 3)), border_value=1)
        if both:
            edge |= ndimage.binary_dilation(coarse, np.ones((3, 3))) & ~coarse
        assert (true_boundary(model, square, (20, 24)).numpy() == edge).all()
        axes = comparison_figure(index, CHOICES[:1], {}, {name: model}, target=True).axes
        drawn = axes[1].get_images()[0]
        size = np.asarray(drawn.get_array()).shape[:2]
        expected = draw_heat(torch.from_numpy(edge).float(), (size[0], size[1]))
        assert (np.asarray(drawn.get_array()) == expected).all()


def test_without_a_boundary_there_is_only_the_truth(index: CocoIndex) -> None:
    assert list(pictures(index, {"baseline": Model(None)})) == ["ground truth"]
