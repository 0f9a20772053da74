"""Errors in YAML files name the file, the key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
        ("  size: 48", "  sizes: 48", ["'data.sizes'", "did you mean 'size'"]),
        ("{images: 8, seed: 1}", "{image: 8, seed: 1}", ["train.image'", "did you mean 'images'"]),
        ("iterations: 6", "iterations: six", ["'schedule.iterations'", "(got 'six')"]),
        ("seed: 2}", "seed: 1}", ["seeds [1, 1, 3]", "give each split its own"]),
        ("seeds: [0]", "colour: red", ["unknown key 'colour'"]),
        ("kind: scenes", "kind: voc", ["'data'", "voc"]),
        ("variant:", "variant: [", ["not valid YAML"]),
        ("description: a", "description: 2024-13-45\nnote: a", ["not valid YAML: month"]),
        ("seeds: [0]", "seeds: 3", ["'seeds': write a list, [a, b] (got 3)"]),
        ("shorter: [48]", "shorter: 48", ["'augmentation.shorter': write a list, [a, b] (got 48)"]),
        ("seeds: [0]", "start: 5", ["'start': 5: no such weights file"]),
        ("machine: {", "machine: 2 # {", ["'machine': write a mapping, {key: value} (got 2)"]),
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


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_is_utf_8(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("description: café", encoding=encoding)
    with pytest.raises(
        SpecError, match=r"mine\.yaml: not UTF-8 \(.* byte .*save the file as UTF-8"
    ):
        read_yaml(path)
    path.write_text("description: café", encoding="utf-8-sig")
    assert read_yaml(path) == {"description": "café"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"train": 5}, "'data.train': Input should be a valid string (got 5)"),
        ({"trian": "a"}, "unknown key 'data.trian' (did you mean 'train'?)"),
        ({"val_fraction": "a"}, "'data.val_fraction': Input should be a valid number, "),
    ],
)
def test_the_path_of_a_key_leaves_out_the_branch_of_a_union(
    tmp_path: Path, smoke: str, data: dict[str, object], said: str
) -> None:
    content = yaml.safe_load(smoke) | {"name": "mine", "data": {"kind": "coco"} | data}
    with pytest.raises(SpecError) as error:
        parse_spec(Profile, content, source="mine.yaml")
    assert str(error.value).startswith(f"mine.yaml: {said}")


def test_a_key_in_the_wrong_place_is_not_its_own_remedy(tmp_path: Path, smoke: str) -> None:
    with pytest.raises(SpecError, match=r"unknown key 'seed' \(did you mean 'seeds'\?\)$"):
        _read(tmp_path, smoke + "\nseed: 3\n")


def test_something_else_than_keys(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected `key: value` lines, found list"):
        _read(tmp_path, "- a\n- b\n")


def test_unknown_key_of_a_row(tmp_path: Path, specs: Path) -> None:
    text = (specs / "table1.yaml").read_text().replace("    options:", "    option:", 1)
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"unknown key 'rows\.1\.option' \(did you mean 'options'"):
        parse_spec(TableSpec, read_yaml(path) | {"name": "t"}, source=path)
