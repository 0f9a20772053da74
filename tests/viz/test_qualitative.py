from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from b2inst.data import CocoIndex
from b2inst.viz.choose import Choice
from b2inst.viz.draw import PALETTE
from b2inst.viz.qualitative import (
    _matched_colours,
    _predicted_instances,
    comparison_figure,
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


def test_predictions_come_back_predicted_instances(index: CocoIndex) -> None:
    mask = square(8, 4, 20)
    found = _predicted_instances([prediction(1, mask, score=0.7)], index, index.images[0])
    assert found.boxes.tolist() == [[4, 8, 24, 28]]
    assert found.names == ["gear"]
    assert torch.equal(found.masks, mask[None])
    assert found.scores.tolist() == found.class_scores.tolist() == [np.float32(0.7)]


def test_an_image_without_predictions_has_empty_instances(index: CocoIndex) -> None:
    found = _predicted_instances([], index, index.images[0])
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
    found = _predicted_instances([prediction(1, mask) for mask in masks], index, record)
    picture = np.full((*SIZE, 3), 60, np.uint8)
    other, matched = _matched_colours(picture, found, truth, [PALETTE[2]])
    assert matched == PALETTE[2]
    assert other != PALETTE[2]


def test_a_row_per_image_and_a_column_per_model(index: CocoIndex) -> None:
    choices = [Choice(1, "largest gain", 0.25), Choice(4, "random, seed 0", None)]
    found = {1: [prediction(1, square(8, 4, 20))], 4: []}
    models = {"B2Inst": Model(), "other": Model(boundary=False)}
    figure = comparison_figure(
        index, choices, {"BlendMask": found, "B2Inst": {1: [], 4: []}}, models
    )
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["ground truth", "BlendMask", "B2Inst", "boundary of\nB2Inst"]
    assert len(figure.axes) == 8
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels[::4] == ["image 1\nlargest gain\ngain +0.25", "image 4\nrandom, seed 0"]
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    heat = pictures[3]
    assert heat[:, 0].mean() > heat[:, -1].mean()  # the boundary was predicted on the left
    changes = [np.ptp(picture.reshape(-1, 3), axis=0).max() > 0 for picture in pictures]
    assert changes == [True, True, False, True, False, False, False, True]


def test_boundaries_of_several_models_and_no_ground_truth(index: CocoIndex) -> None:
    figure = comparison_figure(
        index,
        [Choice(1, "largest gain", 0.0)],
        {"a": {1: []}, "b": {1: []}},
        {"a": Model(), "b": Model()},
        ground_truth=False,
    )
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["a", "b", "boundary of\na", "boundary of\nb"]
