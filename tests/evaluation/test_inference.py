from __future__ import annotations

import gc
import json
import warnings
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from b2inst.data import CocoIndex, DataError, ImageRecord, find_split, write_scenes
from b2inst.evaluation import EvaluationError, evaluate, read_predictions, write_predictions
from b2inst.evaluation.inference import check_classes, equal_size_batches
from b2inst.models import Segmenter, create_model
from b2inst.structures import Instances


class Oracle:
    """A model that knows the answers, image by image in the order of the index."""

    def __init__(self, index: CocoIndex) -> None:
        self.images = iter(index.images)
        self.index = index
        self.batches: list[int] = []

    def predict(self, images: list[Any]) -> list[Instances]:
        self.batches.append(len(images))
        return [self._answer(image) for image in images]

    def _answer(self, image: np.ndarray) -> Instances:
        record = next(self.images)
        assert image.shape == (record.height, record.width, 3)
        found = self.index.annotations[record.id]
        masks = np.stack([a.mask() for a in found])
        return Instances(
            boxes=torch.tensor([a.box for a in found]),
            scores=torch.full((len(found),), 0.5),
            class_scores=torch.full((len(found),), 0.5),
            labels=torch.tensor([a.label for a in found]),
            masks=torch.from_numpy(masks).bool(),
        )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CocoIndex:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, split="val", images=5, size=64, seed=0)
    return CocoIndex.load(*find_split(root, "val"))


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1] * 5), (2, [2, 2, 1])])
def test_a_model_that_knows_the_answers_scores_100(
    index: CocoIndex, tmp_path: Path, batch_size: int, batches: list[int]
) -> None:
    model, path = Oracle(index), tmp_path / "p.jsonl.gz"
    write_predictions(model, index, path, batch_size=batch_size, progress=False)
    metrics = evaluate(read_predictions(path), index.annotation_file)
    assert metrics["AP"] == metrics["boundary_AP"] == pytest.approx(100)
    assert metrics["box_AP"] == pytest.approx(100)
    assert model.batches == batches


def test_an_interrupted_prediction_leaves_nothing(index: CocoIndex, tmp_path: Path) -> None:
    class Broken(Oracle):
        def predict(self, images: list[Any]) -> list[Instances]:
            if len(self.batches) == 2:
                raise RuntimeError("out of memory")
            return super().predict(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        write_predictions(Broken(index), index, tmp_path / "p.jsonl.gz", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_damaged_image_is_named(index: CocoIndex, tmp_path: Path) -> None:
    images = list(index.images)
    images[3] = replace(images[3], path=tmp_path / "gone.png")
    broken = CocoIndex(**vars(index) | {"images": images})
    model = Oracle(broken)
    with pytest.raises(DataError, match=r"gone\.png: no such image"):
        write_predictions(model, broken, tmp_path / "p.jsonl.gz", progress=False)
    assert model.batches == [1, 1, 1], "those before it are predicted"
    assert not list(tmp_path.iterdir())


def test_an_image_of_which_predictions_are_wrong_is_named(index: CocoIndex, tmp_path: Path) -> None:
    class Diverged(Oracle):
        def _answer(self, image: np.ndarray) -> Instances:
            answer = super()._answer(image)
            answer.scores[-1] = torch.nan
            return answer

    name = index.images[0].path.name
    with pytest.raises(EvaluationError, match=rf"{name}, detection \d+: score is nan"):
        write_predictions(Diverged(index), index, tmp_path / "p.jsonl.gz", progress=False)
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_images(index: CocoIndex, tmp_path: Path) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    class Watched(Oracle):
        def predict(self, images: list[Any]) -> list[Instances]:
            nonlocal most
            found = super().predict(images)
            alive.extend(weakref.ref(instances.masks) for instances in found)
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            return found

    write_predictions(Watched(index), index, tmp_path / "p.jsonl.gz", progress=False)
    assert len(alive) == 5
    assert most <= 3  # one is encoded and one waits, while the next is predicted


def test_batches_hold_neighbours_of_equal_size() -> None:
    sizes = [(4, 6), (4, 6), (4, 6), (6, 4), (4, 6), (4, 6)]
    images = [ImageRecord(i, Path(), height, width) for i, (height, width) in enumerate(sizes)]
    batches = equal_size_batches(images, 2)
    assert [[image.id for image in batch] for batch in batches] == [[0, 1], [2], [3], [4, 5]]


def test_an_oracle_is_given_the_true_masks_of_each_image(index: CocoIndex, tmp_path: Path) -> None:
    class Bound(Oracle):
        oracle = True

        def predict_with_truth(
            self, images: list[Any], truths: list[torch.Tensor]
        ) -> list[Instances]:
            answers = self.predict(images)
            for answer, truth in zip(answers, truths, strict=True):
                assert truth.dtype == torch.uint8
                assert truth.bool().equal(answer.masks)
            given.extend(truths)
            return answers

    given: list[torch.Tensor] = []
    write_predictions(Bound(index), index, tmp_path / "p.jsonl.gz", batch_size=2, progress=False)
    assert len(given) == 5


@pytest.fixture
def three_classes(tmp_path: Path) -> CocoIndex:
    """Categories a to c."""
    categories = [{"id": 7, "name": "c"}, {"id": 2, "name": "a"}, {"id": 5, "name": "b"}]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    return CocoIndex.load(file, tmp_path)


def _model(count: int, names: tuple[str, ...] | None) -> Segmenter:
    return create_model("blendmask-tiny", num_classes=count, class_names=names)


def test_classes_without_names_go_by_their_order(three_classes: CocoIndex) -> None:
    with pytest.warns(UserWarning, match=r"in the order of the data's: a, b, c$"):
        check_classes(_model(3, None), three_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_classes(_model(3, ("a", "b", "c")), three_classes)


@pytest.mark.parametrize(
    ("count", "names", "message"),
    [
        (
            2,
            None,
            r"truth\.json: has 3 categories, the model 2 classes; give data",
        ),
        (4, ("a", "b", "c", "d"), "has 3 categories, the model 4 classes"),
        (3, ("a", "B", "c"), r"category 1 is 'b' here and 'B' in the model"),
    ],
)
def test_other_classes_are_refused(
    three_classes: CocoIndex, count: int, names: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        check_classes(_model(count, names), three_classes)
