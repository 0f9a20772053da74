"""Errors in YAML files name the file, the key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.profile import Profile
from b2inst.experiments.specs.table_spec import TableSpec
from b2inst.experiments.specs.yaml_spec import parse_spec, read_yaml


@pytest.fixture
def smoke(specs: Path) -> str:
    return (specs / "profiles/smoke.yaml").read_text()


def _read(tmp_path: Path, text: str) -> Profile:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return parse_spec(Profile, read_yaml(path) | {"name": "mine"}, source=path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("variant:", "varient:", ["'varient'", "did you mean 'variant'", "'variant' is missing"]),
        ("batch_size:", "batchsize:", ["'schedule.batchsize'", "did you mean 'batch_size'"]),
        ("  size: 48", "  sizes: 48", ["'data.scenes.sizes'", "did you mean 'size'"]),
        ("{images: 8, seed: 1}", "{image: 8, seed: 1}", ["train.image'", "did you mean 'images'"]),
        ("iterations: 6", "iterations: six", ["'schedule.iterations'", "(got 'six')"]),
        ("seed: 2}", "seed: 1}", ["seeds [1, 1, 3]", "give each split its own"]),
        ("seeds: [0]", "colour: red", ["unknown key 'colour'"]),
        ("kind: scenes", "kind: voc", ["'data'", "voc"]),
        ("variant:", "variant: [", ["not valid YAML"]),
    ],
)
def test_error_is_one_line_that_names_file_and_key(
    tmp_path: Path, smoke: str, old: str, new: str, said: list[str]
) -> None:
    assert old in smoke
    with pytest.raises(SpecError) as error:
        _read(tmp_path, smoke.replace(old, new, 1))
    message = str(error.value)
    assert message.startswith(str(tmp_path / "mine.yaml"))
    assert "\n" not in message
    for part in said:
        assert part in message


def test_shipped_file_is_read(tmp_path: Path, smoke: str) -> None:
    assert _read(tmp_path, smoke).schedule.iterations == 6


def test_something_else_than_keys(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected `key: value` lines, found list"):
        _read(tmp_path, "- a\n- b\n")


def test_unknown_key_of_a_row(tmp_path: Path, specs: Path) -> None:
    text = (specs / "table1.yaml").read_text().replace("    options:", "    option:", 1)
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"unknown key 'rows\.1\.option' \(did you mean 'options'"):
        parse_spec(TableSpec, read_yaml(path) | {"name": "t"}, source=path)
