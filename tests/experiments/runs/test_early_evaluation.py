from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from b2inst.data import CocoIndex, DataError
from b2inst.evaluation import evaluate, read_predictions, write_predictions
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.measuring import early_subset
from b2inst.experiments.runs.runner import run
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.weights import load_model
from b2inst.weights.files import model_card


@pytest.fixture
def index(spec: RunSpec, tmp_path: Path) -> CocoIndex:
    prepare(spec.data, tmp_path)
    return load_split(spec.data, "val", tmp_path)


@pytest.mark.parametrize(("images", "steps"), [(2, {1}), (100, {1}), (150, {1, 2}), (250, {2, 3})])
def test_at_most_100_evenly_spaced_images(index: CocoIndex, images: int, steps: set[int]) -> None:
    many = replace(
        index,
        images=[replace(index.images[0], id=i) for i in range(images)],
        annotations=dict.fromkeys(range(images), index.annotations[index.images[0].id]),
    )
    ids = [image.id for image in early_subset(many).images]
    assert len(ids) == min(images, 100)
    assert ids[0] == 0
    assert set(np.diff(ids)) == steps


def test_images_with_instances_keep_their_share_and_are_never_left_out(index: CocoIndex) -> None:
    one, some = index.images[0], index.annotations[index.images[0].id]
    for images, filled, expected in ((250, {1}, 1), (1000, set(range(0, 1000, 4)), 25)):
        many = replace(
            index,
            images=[replace(one, id=i) for i in range(images)],
            annotations={i: some if i in filled else [] for i in range(images)},
        )
        subset = early_subset(many)
        assert (len(subset), len(subset.annotated())) == (100, expected)


def test_nothing_to_look_at_is_an_error(index: CocoIndex) -> None:
    with pytest.raises(DataError):
        early_subset(replace(index, annotations={image.id: [] for image in index.images}))


def test_a_look_gives_what_the_evaluation_of_its_weights_gives(
    spec: RunSpec, workspace: Workspace, index: CocoIndex, tmp_path: Path
) -> None:
    schedule = spec.schedule.model_copy(
        update={"eval_every": 10, "iterations": 25, "learning_rate": 0.003, "batch_size": 4}
    )
    spec = spec.model_copy(update={"schedule": schedule})
    done = run(spec, workspace, progress=False)
    looks = {line["iteration"]: line["AP"] for line in done.log() if "AP" in line}
    assert list(looks) == [10, 20, 25]
    card = model_card(done.best_path)
    assert looks[card["iteration"]] == card["AP"] == max(looks.values())
    write_predictions(load_model(done.best_path), index, tmp_path / "p.jsonl.gz", progress=False)
    metrics = evaluate(read_predictions(tmp_path / "p.jsonl.gz"), index)
    assert {n: card[n] for n in ("AP", "boundary_AP")} == pytest.approx(
        {n: metrics[n] for n in ("AP", "boundary_AP")}, abs=0.01
    )
