from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from b2inst.data import CocoDataset, CocoIndex, train_transforms, write_scenes
from b2inst.models import BasisSegmenter, create_model
from b2inst.training import Schedule

SIZE = 64


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> CocoIndex:
    root = tmp_path_factory.mktemp("scenes")
    file = write_scenes(root, split="train", images=5, size=SIZE, seed=3)
    return CocoIndex.load(file, root / "train")


class Disturbed:
    """Augmentation that does something just before the n-th sample is drawn."""

    def __init__(self, transforms: Callable[..., Any], sample: int, action: Callable[[], None]):
        self.transforms, self.left, self.action = transforms, sample, action

    def __call__(self, *sample: Any) -> Any:
        if self.left == 0:
            self.action()
        self.left -= 1
        return self.transforms(*sample)


@pytest.fixture
def dataset(index: CocoIndex) -> Callable[..., CocoDataset]:
    """A function to a data set; with ``sample`` and ``action``, one that is disturbed there."""

    def make(sample: int | None = None, action: Callable[[], None] | None = None) -> CocoDataset:
        transforms: Any = train_transforms(
            shorter=[SIZE, SIZE + 16], longer_max=SIZE + 16, flip=0.5
        )
        if sample is not None and action is not None:
            transforms = Disturbed(transforms, sample, action)
        return CocoDataset(index, transforms)

    return make


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(
        iterations=6,
        batch_size=2,
        learning_rate=0.01,
        warmup_iterations=2,
        milestones=(4,),
        log_every=1,
        checkpoint_every=2,
    )


@pytest.fixture
def model() -> Callable[..., BasisSegmenter]:
    """A function to a small B2Inst, every time with the same weights."""

    def make(name: str = "b2inst-blendmask-tiny", **options: Any) -> BasisSegmenter:
        torch.manual_seed(0)
        return create_model(name, num_classes=8, **options)

    return make


@pytest.fixture
def run(model: Callable[..., BasisSegmenter], schedule: Schedule) -> Callable[..., dict[str, Any]]:
    """A function: output folder and data set to the state of a trained model."""
    from b2inst.training import train

    def call(out: Path, data: CocoDataset, **changes: Any) -> dict[str, Any]:
        trained = changes.pop("model", None) or model()
        options = {"schedule": schedule, "seed": 7, "device": "cpu", "progress": False} | changes
        train(trained, data, out=out, **options)
        return trained.state_dict()

    return call
