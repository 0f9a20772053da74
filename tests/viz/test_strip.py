from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from b2inst.data import CocoIndex
from b2inst.viz.choose import Choice
from b2inst.viz.strip import strip_figure

from .conftest import prediction, square


class Model:
    """Predicts a boundary in the left half of every image, or none."""

    def __init__(self, *, boundary: bool) -> None:
        half = torch.tensor([[1.0, 0.0]]).repeat_interleave(6, 1).repeat(10, 1)
        self.answer = SimpleNamespace(boundary=half if boundary else None)

    def explain(self, image: np.ndarray) -> SimpleNamespace:
        return self.answer


def test_a_column_a_model_and_its_boundary(index: CocoIndex) -> None:
    found = {"a": [prediction(1, square(8, 4, 20))], "B2Inst-a": [], "b": []}
    models = {name: Model(boundary=name.startswith("B2Inst")) for name in found}
    choices = [Choice(1, "largest gain\nB2Inst-a", 0.25), Choice(2, "drawn by seed 0", None)]
    figure = strip_figure(index, choices, found, models)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:5] == ["ground truth", "a", "B2Inst-a", "b", "boundary of\nB2Inst-a"]
    assert len(figure.axes) == 10
    assert "+0.25" in figure.axes[0].get_ylabel()
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    for drawn, plain in ((pictures[1], pictures[2]), (pictures[0], pictures[3])):
        assert np.ptp(drawn.reshape(-1, 3), axis=0).max() > 0  # an instance, tinted
        assert np.ptp(plain.reshape(-1, 3), axis=0).max() == 0
    assert pictures[4][:, 0].mean() > pictures[4][:, -1].mean()  # the boundary is on the left
