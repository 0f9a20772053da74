"""``b2inst compare`` as users script it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from b2inst.cli import app
from b2inst.cli.compare import comparison_text
from b2inst.data import write_scenes
from b2inst.evaluation.bootstrap import noise_band
from b2inst.evaluation.compare import Comparison


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Scenes, and three perfect predictions of them as COCO results."""
    write_scenes(tmp_path / "coco", split="val2017", images=4, size=48, seed=0)
    truth = json.loads((tmp_path / "coco/annotations/instances_val2017.json").read_text())
    fields = ("image_id", "category_id", "segmentation", "bbox")
    perfect = [{**{k: a[k] for k in fields}, "score": 0.9} for a in truth["annotations"]]
    for name, records in (("perfect", perfect), ("half", perfect[::2]), ("none", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return tmp_path / "coco"


def test_two_files(coco: Path, tmp_path: Path) -> None:
    files = [tmp_path / "none.json", tmp_path / "perfect.json"]
    done = _call("compare", *files, "--data", coco, "--resamples", 100, "--jobs", 1)
    assert done.exit_code == 0, done.output
    lines = {line[:13].strip(): line[13:].split() for line in done.stdout.splitlines()}
    for metric in ("AP", "boundary AP", "box AP75"):
        assert lines[metric] == ["0.0", "100.0", "+100.0", "[+100.0,", "+100.0]"]
    assert "how much results vary from seed to seed is not in it" in done.stdout
    annotations = coco / "annotations/instances_val2017.json"
    again = _call(
        *("compare", *files, "--annotations", annotations, "--resamples", 100, "--jobs", 1)
    )
    assert again.stdout == done.stdout


def test_seeds_are_put_together_by_commas(coco: Path, tmp_path: Path) -> None:
    half, perfect = tmp_path / "half.json", tmp_path / "perfect.json"
    done = _call(
        *("compare", f"{half},{perfect}", f"{perfect},{half}", "--data", coco),
        *("--resamples", 100, "--jobs", 1),
    )
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("AP ")]
    assert "+0.0 [" in line
    assert line.endswith("≈")
    assert line.count("±") == 2
    assert "the 2 seeds' own differences" in done.stdout


def test_mistakes_are_one_line(coco: Path, tmp_path: Path) -> None:
    perfect = tmp_path / "perfect.json"
    for arguments, message in (
        ([f"{perfect},{perfect}", perfect, "--data", coco], "2 and 1 files"),
        ([tmp_path / "gone.json", perfect, "--data", coco], "gone.json"),
        ([perfect, perfect, "--data", coco, "--split", "other"], "no split 'other'"),
    ):
        done = _call("compare", *arguments, "--jobs", 1)
        assert done.exit_code == 1, done.output
        (line,) = done.stderr.strip().splitlines()
        assert message in line
    assert _call("compare", perfect, perfect).exit_code == 2


def test_metrics_without_ground_truth_are_dashes() -> None:
    a, b = [np.array([40.0, 39.0, 41.0])], [np.array([41.0, 40.5, 42.0])]
    text = comparison_text(
        {
            "AP": Comparison([40.0], [41.0], noise_band(b, a)),
            "APl": Comparison([float("nan")], [float("nan")], None),
        },
        resamples=2,
    )
    lines = text.splitlines()
    assert lines[1].split() == ["AP", "40.0", "41.0", "+1.0", "[+1.0,", "+1.5]"]
    assert lines[2].split() == ["APl", "–", "–", "–"]
