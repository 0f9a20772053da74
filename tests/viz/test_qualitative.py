from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from b2inst.data import CocoIndex
from b2inst.viz.choose import Choice
from b2inst.viz.draw import PALETTE
from b2inst.viz.qualitative import (
    as_instances,
    matched_colours,
    picture_grid,
    qualitative_figure,
    truth_instances,
)

from .conftest import SIZE, prediction, square


class Model:
    """Predicts a boundary in the left half of every image."""

    def __init__(self, *, boundary: bool = True) -> None:
        half = torch.tensor([[1.0, 0.0]]).repeat_interleave(6, 1).repeat(10, 1)
        self.answer = SimpleNamespace(boundary=half if boundary else None)

    def explain(self, image: np.ndarray) -> SimpleNamespace:
        assert image.dtype == np.uint8
        assert image.shape == (*SIZE, 3)
        return self.answer


def test_predictions_come_back_as_instances(index: CocoIndex) -> None:
    mask = square(8, 4, 20)
    found = as_instances([prediction(1, mask, score=0.7)], index, index.images[0])
    assert found.boxes.tolist() == [[4, 8, 24, 28]]
    assert found.names == ["gear"]
    assert torch.equal(found.masks, mask[None])
    assert found.scores.tolist() == found.class_scores.tolist() == [np.float32(0.7)]


def test_an_image_without_predictions_has_empty_instances(index: CocoIndex) -> None:
    found = as_instances([], index, index.images[0])
    assert len(found) == 0
    assert found.masks.shape == (0, *SIZE)


def test_truth_leaves_crowds_out(index: CocoIndex) -> None:
    truth = truth_instances(index, index.images[0])
    assert torch.equal(truth.masks, square(8, 4, 20)[None])
    assert truth.boxes.tolist() == [[4, 8, 24, 28]]
    assert len(truth_instances(index, index.images[3])) == 0


def test_instances_take_the_colour_of_their_object(index: CocoIndex) -> None:
    record = index.images[0]
    truth = truth_instances(index, record)
    masks = [square(30, 30, 8), square(10, 4, 20)]
    found = as_instances([prediction(1, mask) for mask in masks], index, record)
    picture = np.full((*SIZE, 3), 60, np.uint8)
    other, matched = matched_colours(picture, found, truth, [PALETTE[2]])
    assert matched == PALETTE[2]
    assert other != PALETTE[2]


def test_a_row_an_image_and_a_column_a_model(index: CocoIndex) -> None:
    choices = [Choice(1, "largest gain", 0.25), Choice(4, "drawn by seed 0", 0.0)]
    found = [prediction(1, square(8, 4, 20))]
    figure = qualitative_figure(
        index, choices, found, found, names=("BlendMask", "B2Inst"), model=Model()
    )
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["ground truth", "BlendMask", "B2Inst", "boundary basis"]
    assert len(figure.axes) == 8
    assert "image 1" in figure.axes[0].get_ylabel()
    assert "+0.25" in figure.axes[0].get_ylabel()
    heat = figure.axes[3].images[0].get_array()
    assert heat[:, 0].mean() > heat[:, -1].mean()  # the boundary was predicted on the left
    drawn, plain = (figure.axes[i].images[0].get_array() for i in (1, 5))
    assert np.ptp(plain.reshape(-1, 3), axis=0).max() == 0  # nothing predicted on image 4
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() > 0


def test_without_a_boundary_there_is_no_column_for_it(index: CocoIndex) -> None:
    for model in (None, Model(boundary=False)):
        figure = qualitative_figure(
            index, [Choice(1, "largest gain", 0.0)], [], [], names=("a", "b"), model=model
        )
        assert [axis.get_title() for axis in figure.axes] == ["ground truth", "a", "b"]


def test_rows_stand_side_by_side_and_may_be_shorter() -> None:
    pictures = [np.full((4, 6, 3), value, dtype=np.uint8) for value in range(5)]
    rows = [[pictures[0], pictures[1]], [pictures[2]], [pictures[3], pictures[4]]]
    figure = picture_grid(rows, ["left", "right"], ["a", "b", "c"], across=2, note="by rule")
    assert [axis.get_title() for axis in figure.axes[:4]] == ["left", "right"] * 2
    shown = [[int(p.get_array().max()) for p in axis.images] for axis in figure.axes]
    assert shown == [[0], [1], [2], [], [3], [4], [], []]
    assert [axis.get_ylabel() for axis in figure.axes] == ["a", "", "b", "", "c", "", "", ""]
    assert figure.get_supxlabel() == "by rule"
