"""The script that rates masks of objects whose boxes are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from b2inst.data import CocoIndex, write_scenes
from b2inst.experiments import load_profile
from b2inst.models import create_model
from b2inst.structures import FrameMasks

SIZE = 96


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("true_boxes")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CocoIndex:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, split="val", images=4, size=SIZE, seed=5)
    return CocoIndex.load(folder / "annotations/instances_val.json", folder / "val")


def rated_as(
    change: Callable[[Tensor], Tensor],
    script: ModuleType,
    index: CocoIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> np.ndarray:
    """What the script measures of a model whose masks are the true ones, changed."""
    model = create_model("blendmask-tiny", num_classes=len(index.category_ids), scoring=["iou"])
    seen: list[Any] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0]))

    def assemble(bases: object, boxes: list[Tensor], coefficients: Tensor) -> FrameMasks:
        targets = seen[-1]
        rows = [int((targets.boxes == box).all(dim=1).nonzero()[0]) for box in boxes[0]]
        masks = change(targets.masks[rows].bool())
        return FrameMasks(masks.float(), boxes[0], stride=1, origin=0.5)

    monkeypatch.setattr(model.assembler, "assemble", assemble)
    monkeypatch.setattr(script, "load_model", lambda path: model.eval())
    sums: np.ndarray = script._measure(Path("unused"), index, load_profile("tiny"))
    return sums


def test_true_masks_are_perfect_and_their_opposites_worthless(
    script: ModuleType, index: CocoIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfect = rated_as(lambda masks: masks, script, index, monkeypatch)
    objects = [sum(not a.crowd for a in index.annotations[image.id]) for image in index.images]
    assert perfect[:, 0].tolist() == objects
    assert perfect[:, 1:] == pytest.approx(np.array([[n, n] for n in objects]))
    opposite = rated_as(lambda masks: ~masks, script, index, monkeypatch)
    assert opposite[:, 0].tolist() == objects
    assert not opposite[:, 1].any()


def test_objects_count_alike_whatever_image_they_are_in(script: ModuleType) -> None:
    sums = np.array([[1, 1.0, 0.5], [3, 0.6, 0.9], [0, 0.0, 0.0]])
    draws = np.array([[1, 1, 1], [0, 2, 1]])
    means = script._resampled(sums, draws)
    assert means == pytest.approx(np.array([[40, 35], [20, 30]]))


def test_a_difference_of_equals_is_none(script: ModuleType) -> None:
    rng = torch.Generator().manual_seed(0)
    runs = [100 * torch.rand((50, 2), generator=rng).numpy() for _ in range(2)]
    shifted = [run + np.array([3, -1]) for run in runs]
    differences = script._differences(shifted, runs)
    assert [d["mean"] for d in differences] == [3, -1]
    assert [tuple(d["band95"]) for d in differences] == [(3, 3), (-1, -1)]
