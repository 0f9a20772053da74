"""Numbers that change need a new version of the code.

``UPDATE_GOLDEN=1 pytest tests/experiments/test_code_version.py`` writes the numbers of the current
versions into ``golden.json``, after a version was raised.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from b2inst.data import CocoIndex
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.measuring import measure
from b2inst.experiments.runs.runner import run
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.models import create_model

GOLDEN = Path(__file__).with_name("golden.json")

TRAINED = {
    "b2inst-blendmask-tiny": {"attention_size": 7, "shorter": 48, "longer_max": 48},
    "gated-condinst-tiny": {"shorter": 48, "longer_max": 48},
    "b2inst-yolact-tiny": {"size": 64},
    "bmask-rcnn-tiny": {"shorter": 48, "longer_max": 48},
    "ms-rcnn-tiny": {"shorter": 48, "longer_max": 48},
    "centermask-tiny": {"shorter": 48, "longer_max": 48},
    "fcis-tiny": {"shorter": 48, "longer_max": 48},
    "masklab-tiny": {"shorter": 48, "longer_max": 48},
    "mnc-tiny": {"shorter": 48, "longer_max": 48},
    "pointrend-tiny": {"shorter": 48, "longer_max": 48},
    "tensormask-tiny": {"shorter": 48, "longer_max": 48},
}


def assert_as_before(name: str, version: int, found: dict[str, float], tolerance: float) -> None:
    """Compare numbers with those recorded for a version of the code."""
    golden = json.loads(GOLDEN.read_text())
    if os.environ.get("UPDATE_GOLDEN"):
        golden[name] = {"version": version, "numbers": found}
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    recorded = golden[name]
    assert recorded["version"] == version, "record the numbers of the new version: UPDATE_GOLDEN=1"
    assert found == pytest.approx(recorded["numbers"], rel=tolerance), (
        "numbers changed: raise the version in experiments/runs/code_version.py, then record them"
    )


@pytest.mark.parametrize("model", TRAINED)
def test_training(model: str, spec: RunSpec, tmp_path: Path) -> None:
    spec = spec.model_copy(update={"model": model, "options": TRAINED[model]})
    workspace = Workspace(tmp_path)
    prepare(spec.data, workspace.data)
    done = run(spec, workspace, progress=False)
    found = {
        f"{name} {line['iteration']}": value
        for line in done.log()
        for name, value in line.items()
        if name.startswith("loss_")
    }
    # Two kinds of CPU differ by some 1e-5 after three steps.
    assert_as_before(model, code_version.TRAINING, found, tolerance=1e-3)


@pytest.mark.parametrize("model", TRAINED)
def test_prediction(model: str, spec: RunSpec, tmp_path: Path) -> None:
    prepare(spec.data, tmp_path)
    truth = load_split(spec.data, "test", tmp_path)
    torch.manual_seed(0)
    segmenter = create_model(model, num_classes=2, **TRAINED[model])
    segmenter._detector.score_threshold = 0.0  # fresh weights find nothing else
    found = {}
    for image in truth.images:
        (result,) = segmenter.predict([image.path])
        assert len(result)
        found[f"{image.id} number"] = float(len(result))
        found[f"{image.id} scores"] = float(result.scores.sum())
        found[f"{image.id} boxes"] = float(result.boxes.sum())
        found[f"{image.id} masks"] = float(result.masks.sum())
    name = f"{model} predicts"
    # Between two kinds of CPU a few of a hundred candidates may be suppressed otherwise.
    assert_as_before(name, code_version.PREDICTION, found, tolerance=0.05)


def _detections(truth: CocoIndex) -> list[Any]:
    """Masks of the truth moved by some pixels, with random scores."""
    rng = np.random.default_rng(0)
    records = []
    for image in truth.to_coco()["annotations"]:
        mask = mask_utils.decode(image["segmentation"])
        moved = np.asfortranarray(np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1)))
        records.append(
            {
                "image_id": image["image_id"],
                "category_id": image["category_id"],
                "segmentation": mask_utils.encode(moved),
                "bbox": mask_utils.toBbox(mask_utils.encode(moved)).tolist(),
                "score": float(rng.random()),
            }
        )
    return records


def test_evaluation(spec: RunSpec, tmp_path: Path) -> None:
    prepare(spec.data, tmp_path)
    truth = load_split(spec.data, "test", tmp_path)
    measured = measure(_detections(truth), truth, spec)
    found = {name: value for name, value in measured.metrics.items() if value is not None}
    for name, values in measured.resampled.items():
        if np.isfinite(values).any():
            found[f"{name} resampled"] = float(np.nanmean(values))
    assert_as_before("evaluation", code_version.EVALUATION, found, tolerance=1e-9)
