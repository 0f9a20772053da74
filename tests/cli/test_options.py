from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer import BadParameter
from typer.testing import CliRunner

import b2inst.experiments
from b2inst.cli import app
from b2inst.cli.options import parse_seeds, parse_slurm, read_split
from b2inst.data import write_scenes
from b2inst.experiments import coco_folder
from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.specs.errors import SpecError


def test_options_of_sbatch() -> None:
    given = ["partition=gpu,time=24:00:00", "exclusive,comment=a=b"]
    expected = {"partition": "gpu", "time": "24:00:00", "exclusive": True, "comment": "a=b"}
    assert parse_slurm(given) == expected
    assert parse_slurm(None) is None


@pytest.mark.parametrize("text", ["0,0", "-1", "0,x", "", "4294967296", "99999999999999999999"])
def test_seeds_are_different_and_not_too_large(text: str) -> None:
    assert parse_seeds("4294967295,0") == (2**32 - 1, 0)
    with pytest.raises(BadParameter, match=f"--seeds {text}: give different .* below 2"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("splits", "options"),
    [
        (("train", "valid", "test"), {}),
        (("train", "val", "val2017"), {}),
        (("train", "a"), {"val": "a"}),
        (("all",), {"val_fraction": 0.5}),
        (("a", "b"), {"train": "b", "val_fraction": 0.5}),
    ],
)
@pytest.mark.parametrize("with_images", [True, False])
def test_splits_are_found_as_train_finds_them(
    tmp_path: Path, splits: tuple[str, ...], options: dict[str, Any], with_images: bool
) -> None:
    for seed, split in enumerate(splits):
        write_scenes(tmp_path, split=split, images=3 + seed, size=48, seed=seed)
    expected = load_split(coco_folder(tmp_path, **options), "val", tmp_path)
    if not with_images and "val_fraction" not in options:  # goes by the images that are there
        for split in splits:
            shutil.rmtree(tmp_path / split)
    found = read_split(tmp_path, with_images=with_images, **options)
    assert found.annotation_file == expected.annotation_file
    assert [i.id for i in found.images] == [i.id for i in expected.images]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("all",), "its only split is 'all'; hold out .* with --val-fraction 0.2"),
        (("a", "b"), "which split is for val. It has a, b; name one with --val-split"),
    ],
)
def test_an_unclear_split_is_an_error_as_in_training(
    tmp_path: Path, splits: tuple[str, ...], message: str
) -> None:
    for split in splits:
        write_scenes(tmp_path, split=split, images=1, size=48, seed=0)
    for call in (read_split, partial(coco_folder, train=splits[0])):
        with pytest.raises(SpecError, match=message):
            call(tmp_path)


def test_evaluation_needs_no_split_to_train_on(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="test", images=1, size=48, seed=0)
    write_scenes(tmp_path, split="other", images=1, size=48, seed=0)
    assert read_split(tmp_path).image_dir == tmp_path / "test"
    files = {"val": f"{tmp_path / 'annotations/instances_other.json'}:{tmp_path / 'other'}"}
    assert read_split(tmp_path, **files).image_dir == tmp_path / "other"
    assert len(read_split(tmp_path, **files, with_images=False)) == 1
    for wrong in ({}, files, {"val": "test"}):
        with pytest.raises(BadParameter):
            read_split(None, **wrong)


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_table_is_launched_as_asked(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {}

    def make_table(name: str, **arguments: Any) -> None:
        asked.update(arguments)
        raise SpecError("enough")

    monkeypatch.setattr(b2inst.experiments, "make_table", make_table)
    options = ["--launcher", launcher, "--devices", "4", "--machines", "2", "--slurm", "mem=9G"]
    CliRunner().invoke(app, ["table", "table1", "--profile", "smoke", *options])
    assert asked["launcher"] == launcher
    machine = asked["machine"]
    assert (machine.devices, machine.machines, machine.slurm) == (4, 2, {"mem": "9G"})
