"""What a table spec must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import TableSpec, load_table

TABLE = """
title: t
source: s
base: a
rows:
  - {name: a, model: blendmask, paper: {AP: 1.0}}
  - {name: b, paper: {AP: 2.0}}
  - {name: c, model: blendmask, options: {attention_size: 14}}
"""


def _load(tmp_path: Path, text: str) -> TableSpec:
    (tmp_path / "mine.yaml").write_text(text)
    return load_table(str(tmp_path / "mine.yaml"))


def test_rows_without_a_model_are_published_only(tmp_path: Path) -> None:
    table = _load(tmp_path, TABLE)
    specs = table.run_specs(load_profile("tiny"), (0,))
    assert table.name == "mine"
    assert list(specs) == ["a", "c"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("base: a", "base: z", "'z' is not a row; rows are a, b, c"),
        ("name: b", "name: a", "give each its own name"),
        ("base: a", "base: a\ncolumns: [AP, fps]", r"unknown columns \['fps'\]; there are .*FPS"),
        ("paper: {AP: 2.0}", "base: z", "'z' is not a row; rows are a, b, c"),
        ("AP: 2.0", "AR: 2.0", r"row 'b': paper cells \['AR'\]"),
        ("AP: 2.0", "AP: .nan", r"'rows\.1\.paper\.AP': Input should be a finite number"),
        ("name: b,", "name: b, schedule: .inf,", r"'rows\.1\.schedule': Input .* finite number"),
        ("name: b,", "name: '',", r"'rows\.1\.name': String should have at least 1 character"),
        ("base: a", "base: a\ncolumns: [AP, AP60]", r"unknown columns \['AP60'\]"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        _load(tmp_path, TABLE.replace(old, new))


def test_a_mistake_in_a_row_is_the_only_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"'rows\.1\.schedule': Input .* than 0 \(got -1\)$"):
        _load(tmp_path, TABLE.replace("name: b,", "name: b, schedule: -1,"))
    with pytest.raises(SpecError, match=r"'rows': .* at least 1 item"):
        _load(tmp_path, "title: t\nsource: s\nrows: []")


def test_models_and_variants_that_do_not_exist_are_named(tmp_path: Path) -> None:
    profile = load_profile("tiny")
    for old, new, said in (
        ("c, model: blendmask", "c, model: blendmusk", r"unknown model 'blendmusk' \(did you mean"),
        ("c, model", "c, variant: r500, model", r"unknown variant 'r500' \(did you mean 'r50'\?\)"),
    ):
        with pytest.raises(SpecError, match=f"mine: row 'c': {said}"):
            _load(tmp_path, TABLE.replace(old, new)).run_specs(profile, (0,))
    wrong = profile.model_copy(update={"variants": {"r50": "r500"}})
    with pytest.raises(SpecError, match="profile tiny: no model has the variant 'r500'"):
        _load(tmp_path, TABLE).run_specs(wrong, (0,))


def test_rows_without_a_model_of_their_variant_are_not_run(tmp_path: Path) -> None:
    text = TABLE.replace("name: a, model: blendmask", "name: a, variant: r50, model: mnc")
    table, profile = _load(tmp_path, text), load_profile("tiny")
    assert list(table.run_specs(profile, (0,))) == ["a", "c"]
    without = profile.model_copy(update={"variants": {}})
    assert list(table.run_specs(without, (0,))) == ["c"]
    larger = profile.model_copy(update={"variants": {"r50": "mobilenetv2"}})  # MNC has none
    assert list(table.run_specs(larger, (0,))) == ["c"]


def test_a_row_may_name_its_own_base(tmp_path: Path) -> None:
    assert _load(tmp_path, TABLE).bases == {"b": "a", "c": "a"}
    own = TABLE.replace("name: c,", "name: c, base: b,")
    assert _load(tmp_path, own).bases == {"b": "a", "c": "b"}
    assert _load(tmp_path, own.replace("base: a\n", "")).bases == {"c": "b"}


def test_a_profile_may_add_columns(tmp_path: Path) -> None:
    table = _load(tmp_path, TABLE)
    wider = table.with_columns(("AP", "touching_AP", "PQ"))
    assert wider.columns == (*table.columns, "touching_AP", "PQ")


def test_columns_are_metrics_or_costs(tmp_path: Path) -> None:
    assert _load(tmp_path, TABLE).costs == ()
    table = _load(tmp_path, TABLE.replace("base: a", "base: a\ncolumns: [FPS, AP, GFLOPs]"))
    assert table.metrics == ("AP",)
    assert table.costs == ("FPS", "GFLOPs")


def test_unknown_table_lists_the_known() -> None:
    with pytest.raises(SpecError, match=r"no table 'table9'; there are .*table1"):
        load_table("table9")
