"""Two specs are the same run if and only if what decides the weights is the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import Augmentation, RunSpec, StartFile


def _changed(spec: RunSpec, path: str, value: Any) -> RunSpec:
    content = spec.model_dump(mode="json")
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return RunSpec.model_validate(content)


def _started(spec: RunSpec, path: Path) -> RunSpec:
    start = StartFile.of(path).model_dump(mode="json")
    return RunSpec.model_validate({**spec.model_dump(mode="json"), "start": start})


def test_a_changed_copy_is_another_run(spec: RunSpec) -> None:
    before = spec.hash
    assert spec.model_copy(update={"seed": spec.seed + 1}).hash != before == spec.hash


def test_hash_is_sha256_of_the_canonical_identity(spec: RunSpec) -> None:
    content = json.loads(spec.model_dump_json())
    assert content.pop("start") is content.pop("name") is content.pop("row") is None
    del content["data"]["area_bounds"], content["data"]["boundary_pixels"]
    for habit in ("log_every", "checkpoint_every", "eval_every"):
        del content["schedule"][habit]
    assert content["augmentation"].pop("ssd") is content["schedule"].pop("aspect_grouping") is False
    for later in ("crop", "invert", "brightness", "contrast", "blur"):
        assert not content["augmentation"].pop(later)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert spec.hash == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("model", "blendmask-r50"),
        ("options.attention_size", 14),
        ("options.scoring", ["iou"]),
        ("schedule.iterations", 4),
        ("schedule.clip_norm", 1.0),
        ("augmentation.horizontal_flip", 0.0),
        ("augmentation.ssd", True),
        ("schedule.aspect_grouping", True),
        ("data.train.images", 5),
        ("data.version", "scenes-v0"),
        ("precision", "bf16-mixed"),
    ],
)
def test_what_decides_the_weights_changes_the_hash(spec: RunSpec, path: str, value: Any) -> None:
    assert _changed(spec, path, value).hash != spec.hash


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schedule.log_every", 7),
        ("schedule.checkpoint_every", 7),
        ("schedule.eval_every", 7),
        ("data.area_bounds", [1, 2]),
        ("row", "table1 · HBB"),
    ],
)
def test_habits_do_not(spec: RunSpec, path: str, value: Any) -> None:
    assert _changed(spec, path, value).hash == spec.hash


def test_runs_without_a_start_are_those_they_were(spec: RunSpec) -> None:
    """The hash as it was before runs could start from weights; stored runs are found by it."""
    assert spec.hash == "b262b4cce3ac"


def test_committed_runs_are_still_found_by_their_hash() -> None:
    """A field that is added later must leave them as they are."""
    records = sorted((Path(__file__).parents[3] / "results/tiny/runs").glob("*.json"))
    assert records
    for record in records:
        stored = json.loads(record.read_text())["spec"]
        start = stored.get("start") and {"path": "anywhere", "sha256": stored["start"]}
        run = RunSpec.model_validate({**stored, "start": start})
        assert run.hash == record.stem
        assert run.identity() == stored


def test_a_start_is_what_it_holds_not_where_it_lies(spec: RunSpec, tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    one, same, other = (_started(spec, tmp_path / name).hash for name in "abc")
    assert one == same
    assert len({spec.hash, one, other}) == 3


def test_a_start_survives_json_and_is_checked(spec: RunSpec, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    started = _started(spec, path)
    again = RunSpec.model_validate_json(started.model_dump_json())
    assert again == started
    assert again.start is not None
    assert again.start.unchanged() == path
    path.write_bytes(b"two")
    with pytest.raises(SpecError, match="a: is not the file that the run started from"):
        again.start.unchanged()
    path.unlink()
    for look in (again.start.unchanged, lambda: StartFile.of(path)):
        with pytest.raises(SpecError, match="a: no such weights file"):
            look()


def test_augmentation_gives_images_that_make_a_batch() -> None:
    with pytest.raises(ValidationError, match="shorter and longer_max go together"):
        Augmentation(shorter=(96,))
    with pytest.raises(ValidationError, match="give shorter, or crop"):
        Augmentation(invert=0.5)


def test_order_of_keys_does_not_matter(spec: RunSpec) -> None:
    content = spec.model_dump(mode="json")
    turned = {key: content[key] for key in reversed(content)}
    turned["options"] = dict(reversed(content["options"].items()))
    assert RunSpec.model_validate(turned).hash == spec.hash


def test_survives_json(spec: RunSpec) -> None:
    again = RunSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.hash == spec.hash


def test_unknown_and_impossible_values_are_errors(spec: RunSpec) -> None:
    for path, value in (
        ("colour", "red"),
        ("augmentation.zoom", 2),
        ("augmentation.shorter", []),
        ("augmentation.transpose", 1.5),
        ("seed", -1),
        ("seed", 2**32),
    ):
        with pytest.raises(ValidationError):
            _changed(spec, path, value)
