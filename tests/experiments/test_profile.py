"""The shipped profiles, and profiles on one's own data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from b2inst.data import write_scenes
from b2inst.experiments.data_spec import CocoData, ScenesData, coco_folder
from b2inst.experiments.errors import SpecError
from b2inst.experiments.profile import load_profile
from b2inst.models import CATALOG, create_model
from b2inst.modules.preprocessor import Preprocessor

NAMES = ["smoke", "tiny", "small", "coco-1x", "coco-3x"]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profile_names_models_that_exist(name: str, specs: Path) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert f"blendmask-{profile.variant}" in CATALOG
    assert f"b2inst-blendmask-{profile.variant}" in CATALOG


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["blendmask", "condinst"])
def test_shipped_profile_has_options_that_the_families_know(
    name: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("blendmask", "condinst"):
        monkeypatch.setattr(f"b2inst.models.{module}.load_imagenet", lambda *_: None)
    profile = load_profile(name)
    data = CocoData(root=Path("somewhere"))
    for one in (profile, profile.with_data(data)):
        spec = one.run_spec(family, {}, 0)
        with torch.device("meta"):
            model = create_model(spec.model, num_classes=3, **spec.options)
        looked_at = spec.options["shorter"], spec.options["longer_max"]
        preprocessor = model.preprocessor
        assert isinstance(preprocessor, Preprocessor)
        assert (preprocessor.shorter, preprocessor.longer_max) == looked_at


@pytest.mark.parametrize("name", NAMES)
def test_every_family_of_models_can_be_built_by_its_options(name: str, specs: Path) -> None:
    profile = load_profile(name)
    for family in ("blendmask", "b2inst-yolact", "b2inst-condinst"):
        spec = profile.run_spec(family, {}, 0)
        options = {k: v for k, v in spec.options.items() if k != "backbone_weights"}
        with torch.device("meta"):
            model = create_model(spec.model, num_classes=3, **options)
        side = options.get("size")
        assert model.preprocessor.fixed_size == (None if side is None else (side, side))
        assert (side is not None) == ("yolact" in family)
        assert "backbone_weights" in spec.options or not name.startswith("coco")


def test_there_are_no_others(specs: Path) -> None:
    assert sorted(p.stem for p in (specs / "profiles").glob("*")) == sorted(NAMES)


def test_unknown_profile_lists_the_known() -> None:
    with pytest.raises(SpecError, match=r"no profile 'tinny'; there are .*coco-1x.*tiny"):
        load_profile("tinny")
    with pytest.raises(SpecError, match=r"mine\.yaml: no such file"):
        load_profile("mine.yaml")


def test_tiny_is_tuned_and_reported_on_different_scenes() -> None:
    profile = load_profile("tiny")
    data = profile.data
    assert isinstance(data, ScenesData)
    assert (data.size, data.train.images, data.val.images, data.test.images) == (96, 3000, 500, 500)
    assert len({data.train.seed, data.val.seed, data.test.seed}) == 3
    assert profile.machine.jobs == 2
    assert profile.machine.threads == 1


@pytest.mark.parametrize(
    ("name", "iterations", "milestones", "shorter"),
    [
        # Paper §7: 90K iterations, initial learning rate 0.01, mini-batch 16, reduced by a factor
        # of 10 at 60K and 80K; shorter side 800, longer side at most 1333; attention 7×7.
        ("coco-1x", 90_000, (60_000, 80_000), (800,)),
        # Table 4: 36 epochs, shorter side in [640, 800].
        ("coco-3x", 270_000, (210_000, 250_000), (640, 672, 704, 736, 768, 800)),
    ],
)
def test_coco_profiles_are_the_papers_recipe(
    name: str, iterations: int, milestones: tuple[int, ...], shorter: tuple[int, ...]
) -> None:
    profile = load_profile(name)
    schedule = profile.schedule
    assert (schedule.iterations, schedule.milestones) == (iterations, milestones)
    assert (schedule.optimizer, schedule.learning_rate, schedule.gamma) == ("sgd", 0.01, 0.1)
    assert (schedule.batch_size, schedule.policy, schedule.clip_norm) == (16, "steps", None)
    assert (profile.augmentation.shorter, profile.augmentation.longer_max) == (shorter, 1333)
    assert profile.augmentation.horizontal_flip == 0.5
    assert profile.options["attention_size"] == 7
    assert (profile.options["shorter"], profile.options["longer_max"]) == (800, 1333)


def test_coco_profile_asks_for_a_folder() -> None:
    data = load_profile("coco-1x").data
    assert isinstance(data, CocoData)
    with pytest.raises(SpecError, match="DATA=DIR"):
        data.identified()


def test_own_data_take_the_place_of_the_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, split in enumerate(("train", "val")):
        write_scenes(tmp_path, split=split, images=1, size=32, seed=seed)
    given = load_profile("smoke", data=coco_folder(tmp_path))
    assert given.data == coco_folder(tmp_path)
    assert given.augmentation.shorter == (64,)
    assert given.augmentation.transpose == 0  # photographs have an up
    assert given.options["shorter"] == 64

    monkeypatch.setenv("B2INST_COCO_TINY", str(tmp_path))
    assert load_profile("smoke") == given
    assert isinstance(load_profile("tiny").data, ScenesData)


def test_a_row_changes_the_model_only() -> None:
    profile = load_profile("smoke")
    base = profile.run_spec("blendmask", {}, 3)
    row = profile.run_spec("b2inst-blendmask", {"scoring": ["iou"], "attention_size": 14}, 3)
    assert (base.model, row.model) == ("blendmask-tiny", "b2inst-blendmask-tiny")
    assert row.options == {**base.options, "scoring": ["iou"], "attention_size": 14}
    assert row.model_dump(exclude={"model", "options"}) == base.model_dump(
        exclude={"model", "options"}
    )


def test_a_family_may_have_options_of_its_own() -> None:
    own = {"families": {"yolact": {"size": 64}}}
    profile = load_profile("tiny").model_copy(update=own)
    for family in ("yolact", "b2inst-yolact"):
        assert profile.run_spec(family, {"scoring": []}, 0).options == {"size": 64, "scoring": []}
    assert profile.run_spec("blendmask", {}, 0).options == profile.options


def test_a_row_may_ask_for_a_variant_and_a_longer_schedule() -> None:
    profile = load_profile("coco-1x")
    run = profile.run_spec("blendmask", {}, 0, variant="r101", epochs_factor=3)
    assert run.model == "blendmask-r101"
    assert run.schedule == load_profile("coco-3x").schedule
    assert profile.run_spec("blendmask", {}, 0, variant="r50") == profile.run_spec(
        "blendmask", {}, 0
    )


def test_variants_are_what_the_profile_makes_of_them() -> None:
    profile = load_profile("tiny")
    assert profile.run_spec("yolact", {}, 0, variant="r50").model == "yolact-tiny"
    assert profile.run_spec("yolact", {}, 0, variant="tiny").model == "yolact-tiny"
    assert [profile.offers(v) for v in (None, "tiny", "r50", "r101")] == [True, True, True, False]
    with pytest.raises(SpecError, match="profile tiny has no variant 'r101'; it has tiny, r50"):
        profile.run_spec("yolact", {}, 0, variant="r101")
