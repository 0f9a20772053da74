"""Comparing files is comparing what is in them; the numbers themselves are tested elsewhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from b2inst.evaluation import EvaluationError, Prediction, evaluate, noise_band, resample_ap
from b2inst.evaluation.bootstrap import COMPARED, compare

from .conftest import random_pair

Files = tuple[dict[str, Any], dict[str, list[Prediction]], dict[str, Path], Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two seeds of a model a and of a worse one b."""
    truth, predictions = random_pair(0, images=20)
    rng = np.random.default_rng(0)
    models = {"a0": predictions, "a1": [p for p in predictions if rng.random() < 0.9]}
    models |= {
        f"b{seed}": [p | {"score": rng.random(), "class_score": rng.random()} for p in predictions]
        for seed in (0, 1)
    }
    paths = {}
    for name, records in models.items():
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(records))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return truth, models, paths, tmp_path / "truth.json"


def test_one_file_of_each(files: Files) -> None:
    truth, models, paths, annotations = files
    found = compare([paths["a0"]], [paths["b0"]], annotations, resamples=30)
    assert tuple(found) == COMPARED
    a, b = evaluate(models["a0"], truth), evaluate(models["b0"], truth)
    for metric, one in found.items():
        if a[metric] is None:
            assert one.difference is None
            continue
        assert one.first == [pytest.approx(a[metric])]
        assert one.second == [pytest.approx(b[metric])]
        resampled = [
            resample_ap(models[name], truth, metrics=[metric], resamples=30)[metric]
            for name in ("b0", "a0")
        ]
        assert one.difference == noise_band(resampled[:1], resampled[1:])


def test_several_seeds_have_their_own_noise(files: Files) -> None:
    truth, models, paths, annotations = files
    both = [[paths["a0"], paths["a1"]], [paths["b0"], paths["b1"]]]
    found = compare(*both, annotations, metrics=["AP", "boundary_AP"], resamples=10)
    values = {name: evaluate(records, truth)["AP"] or 0.0 for name, records in models.items()}
    differences = [values[f"b{i}"] - values[f"a{i}"] for i in (0, 1)]
    assert found["AP"].first == pytest.approx([values["a0"], values["a1"]])
    noise = found["AP"].difference
    assert noise is not None
    assert noise.band.mean == pytest.approx(np.mean(differences))
    assert noise.seed_sd == pytest.approx(np.std(differences, ddof=1))


def test_files_that_do_not_go_together(files: Files, tmp_path: Path) -> None:
    _, models, paths, annotations = files
    with pytest.raises(EvaluationError, match="2 and 1 files to compare; give as many of each"):
        compare([paths["a0"], paths["a1"]], [paths["b0"]], annotations)
    halves = []
    for name, ids in (("low", range(10, 20)), ("high", range(20, 30))):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([p for p in models["a0"] if p["image_id"] in ids]))
        halves.append(path)
    with pytest.raises(EvaluationError, match=r"high\.json: has no image in common with .*low"):
        compare([halves[0]], [halves[1]], annotations)
    for key, value in (("image_id", 999), ("category_id", 5)):
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps([models["a0"][0] | {key: value}]))
        with pytest.raises(EvaluationError, match=rf"wrong\.json.*{key} {value} is not among the"):
            compare([wrong], [paths["b0"]], annotations)
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    with pytest.warns(UserWarning, match="empty.json has detections in 0 and .*low.json in "):
        nothing = compare([empty], [halves[0]], annotations, metrics=["AP"], resamples=5)
    assert nothing["AP"].first == [0.0]


def test_predictions_of_a_part_of_the_images_are_told(files: Files, tmp_path: Path) -> None:
    truth, models, paths, annotations = files
    full = [p["image_id"] for p in truth["annotations"]]
    part, missing = tmp_path / "part.json", sorted({*full} & {p["image_id"] for p in models["a0"]})

    def compared(left_out: int) -> None:
        kept = [p for p in models["a0"] if p["image_id"] not in missing[:left_out]]
        part.write_text(json.dumps(kept))
        compare([paths["b0"]], [part], annotations, metrics=["AP"], resamples=2)

    tenth = len({*full}) // 10
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compared(tenth)
    count = len(missing)
    expected = (
        rf"of {len({*full})} .*part\.json has .* {count - tenth - 1} and .*b0\.json in {count};"
    )
    with pytest.warns(UserWarning, match=expected):
        compared(tenth + 1)


def test_intervals_of_one_image_are_told(files: Files, tmp_path: Path) -> None:
    truth, models, _, _ = files
    first = truth["images"][0]["id"]
    one = truth | {
        "images": truth["images"][:1],
        "annotations": [a for a in truth["annotations"] if a["image_id"] == first],
    }
    paths = [tmp_path / f"{name}_one.json" for name in ("a0", "b0")]
    for path, name in zip(paths, ("a0", "b0"), strict=True):
        path.write_text(json.dumps([p for p in models[name] if p["image_id"] == first]))
    with pytest.warns(UserWarning, match="1 image: intervals over images have no width"):
        found = compare(paths[:1], paths[1:], one, metrics=["AP"], resamples=10)
    difference = found["AP"].difference
    assert difference is not None
    assert difference.band.low == pytest.approx(difference.band.high)
