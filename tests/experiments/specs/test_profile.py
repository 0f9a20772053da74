"""The shipped profiles, and profiles on one's own data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from b2inst.data import write_scenes
from b2inst.experiments.specs.data_spec import CocoData, ScenesData, coco_folder
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.run_spec import Augmentation, StartFile
from b2inst.experiments.specs.table_spec import Row
from b2inst.models import CATALOG, WITHOUT_BASES, create_model
from b2inst.modules.preprocessor import Preprocessor
from b2inst.weights import save_model

NAMES = ["smoke", "tiny", "small", "nuclei", "coco-1x"]
COCO = ["coco-1x", "coco-1x-aug", "coco-1x-r101", "coco-1x-aug-r101", "coco-3x", "coco-3x-r101"]
#: Of families that the others have a recipe of their own for, by which they are trained there.
RECIPES = {
    "yolact-800k": "yolact",
    "mask-rcnn-1x": "maskrcnn",
    "mask-rcnn-3x": "maskrcnn",
    "fcispp-1x": "fcispp",
}
ALL = sorted({*NAMES, *COCO, *RECIPES, "finetune", "beyond"})


@pytest.mark.parametrize("name", ALL)
def test_shipped_profile_names_models_that_exist(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    family = RECIPES.get(name, "blendmask")
    for variant in (profile.variant, *profile.variants.values()):
        assert f"{family}-{variant}" in CATALOG
        assert f"b2inst-{family}-{variant}" in CATALOG or family in WITHOUT_BASES


def test_two_stage_models_train_at_their_own_rate() -> None:
    for name, iterations in (("coco-1x", 90_000), ("coco-3x", 270_000)):
        spec = load_profile(name).run_spec("ms-rcnn", {}, 0)
        assert (spec.schedule.learning_rate, spec.schedule.iterations) == (0.02, iterations)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["blendmask", "condinst"])
def test_shipped_profile_has_options_that_the_families_know(
    name: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2inst.models.building.load_imagenet", lambda *_: None)
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
def test_every_family_of_models_can_be_built_by_its_options(name: str) -> None:
    profile = load_profile(name)
    for family in ("blendmask", "b2inst-yolact", "b2inst-condinst"):
        spec = profile.run_spec(family, {}, 0)
        options = {k: v for k, v in spec.options.items() if k != "backbone_weights"}
        with torch.device("meta"):
            model = create_model(spec.model, num_classes=3, **options)
        side = None if options.get("keep_size") else options.get("size")
        assert model.preprocessor.fixed_size == (None if side is None else (side, side))
        assert ("size" in options) == ("yolact" in family)
        assert "backbone_weights" in spec.options or not name.startswith("coco")


def test_there_are_no_others(specs: Path) -> None:
    assert sorted(p.stem for p in (specs / "profiles").glob("*")) == ALL


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


@pytest.mark.parametrize("name", COCO)
def test_coco_profiles_are_the_papers_recipe(name: str) -> None:
    """Paper §7 and Table 4's note, and of 36 epochs detectron2's 3x."""
    profile = load_profile(name)
    schedule = profile.schedule
    # §7: 90K iterations, reduced by a factor of 10 at iteration 60K and 80K.
    steps = (210_000, 250_000) if "3x" in name else (60_000, 80_000)
    assert schedule.iterations == (270_000 if "3x" in name else 90_000)
    assert schedule.milestones == steps
    # §7: SGD, initial learning rate 0.01, mini-batch of 16 images.
    assert (schedule.optimizer, schedule.learning_rate, schedule.gamma) == ("sgd", 0.01, 0.1)
    assert (schedule.batch_size, schedule.policy, schedule.clip_norm) == (16, "steps", None)
    # §7: shorter side 800, longer at most 1333; "Aug": shorter side in [640, 800].
    several = "aug" in name or "3x" in name
    shorter = (640, 672, 704, 736, 768, 800) if several else (800,)
    assert (profile.augmentation.shorter, profile.augmentation.longer_max) == (shorter, 1333)
    assert (profile.options["shorter"], profile.options["longer_max"]) == (800, 1333)
    assert profile.options["attention_size"] == 7  # §7
    assert profile.options["backbone_weights"] == "imagenet"  # §7
    assert profile.variant == ("r101" if name.endswith("r101") else "r50")
    # Silent there; as AdelaiDet's BlendMask on detectron2.
    assert profile.augmentation.horizontal_flip == 0.5
    assert (schedule.momentum, schedule.weight_decay) == (0.9, 1e-4)
    assert (schedule.warmup_iterations, schedule.warmup_factor) == (1000, 0.001)
    assert schedule.aspect_grouping


@pytest.mark.parametrize("name", ["coco-1x", "coco-3x-r101", "yolact-800k"])
def test_yolact_has_its_own_recipe_everywhere(name: str) -> None:
    """That of dbolya/yolact, yolact_resnet50_config, but for the data."""
    plan = load_profile(name).with_data(CocoData(root=Path("somewhere")))
    run = plan.run_spec("b2inst-yolact", {"scoring": []}, 5)
    assert run.model == f"b2inst-yolact-{plan.variant}"
    assert (run.data, run.seed, run.options["scoring"]) == (plan.data, 5, [])
    assert (run.options["size"], run.options["frozen_norm"]) == (550, False)
    schedule = run.schedule
    assert (schedule.iterations, schedule.batch_size) == (800_000, 8)  # 54 epochs
    assert schedule.milestones == (280_000, 600_000, 700_000, 750_000)
    assert (schedule.optimizer, schedule.learning_rate, schedule.gamma) == ("sgd", 1e-3, 0.1)
    assert (schedule.momentum, schedule.weight_decay) == (0.9, 5e-4)
    assert schedule.warmup_iterations == 500
    assert schedule.learning_rate * schedule.warmup_factor == pytest.approx(1e-4)
    assert run.augmentation.ssd
    if name != "yolact-800k":
        assert plan.run_spec("b2inst-blendmask", {}, 5).schedule == plan.schedule


def test_coco_profile_asks_for_a_folder() -> None:
    data = load_profile("coco-1x").data
    assert isinstance(data, CocoData)
    with pytest.raises(SpecError, match="--data DIR"):
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


def test_what_a_profile_changes_holds_for_own_data_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: tiny\noptions: {shorter: null, longer_max: null}\n"
        "augmentation: {shorter: [], longer_max: null, crop: 256}\n"
    )
    (tmp_path / "other.yaml").write_text(
        "extends: mine.yaml\nown_data: {augmentation: {crop: 128}}\n"
    )
    tiny, mine, other = (
        load_profile(name, data=CocoData(root=tmp_path))
        for name in ("tiny", str(tmp_path / "mine.yaml"), str(tmp_path / "other.yaml"))
    )
    assert mine.options == tiny.options | {"shorter": None, "longer_max": None}
    assert mine.augmentation == Augmentation(crop=256)
    assert other.augmentation == Augmentation(crop=128)


def test_data_of_a_profile_may_lie_elsewhere(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        write_scenes(tmp_path, split=split, images=1, size=32, seed=seed)
    plan = load_profile("nuclei", data=coco_folder(tmp_path))
    assert isinstance(plan.data, CocoData)
    assert plan.data.root == tmp_path
    assert plan.data.report_split == "test"
    assert plan.data.boundary_pixels == 2
    (tmp_path / "annotations/instances_test.json").unlink()
    assert load_profile("nuclei", data=coco_folder(tmp_path)).data.report_split == "val"


def test_a_limit_of_detections_is_every_models(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("extends: tiny\ndescription: d\nmax_detections: 300\n")
    plan = load_profile(str(profile))
    for family in ("blendmask", "yolact", "condinst"):
        run = plan.run_spec(family, {}, 0)
        assert run.options["max_detections"] == run.max_detections == 300
    common = load_profile("tiny").run_spec("blendmask", {}, 0)
    assert "max_detections" not in common.options  # runs of before are found by their hash
    assert common.max_detections == 100


def test_a_row_changes_the_model_only() -> None:
    profile = load_profile("smoke")
    base = profile.run_spec("blendmask", {}, 3)
    row = profile.run_spec("b2inst-blendmask", {"scoring": ["iou"], "attention_size": 14}, 3)
    assert (base.model, row.model) == ("blendmask-tiny", "b2inst-blendmask-tiny")
    assert row.options == {**base.options, "scoring": ["iou"], "attention_size": 14}
    assert row.model_dump(exclude={"model", "options"}) == base.model_dump(
        exclude={"model", "options"}
    )


def test_models_get_the_options_that_they_have() -> None:
    profile = load_profile("tiny")
    size = {"shorter": 96, "longer_max": 96}
    for family, options in {
        "yolact": {"size": 96},
        "blendmask": {"attention_size": 7, **size},
        "condinst": size,
        "tensormask": size,
    }.items():
        assert profile.run_spec(family, {}, 0).options == options
    wrong = profile.model_copy(update={"options": {"atention_size": 7}})
    with pytest.raises(SpecError, match=r"profile tiny: .*\['atention_size'\] .*'attention_size'"):
        wrong.run_spec("blendmask", {}, 0)
    wrong = profile.model_copy(update={"recipes": {"yolac": profile}})
    with pytest.raises(SpecError, match=r"profile tiny: recipes: .*\['yolac'\]; .*, yolact$"):
        wrong.run_spec("blendmask", {}, 0)
    with pytest.raises(SpecError, match="unknown model 'blendmask-tini'; did you mean"):
        profile.run_of("blendmask-tini", {}, 0)


def test_a_pretrained_variant_starts_from_imagenet_unless_told_otherwise() -> None:
    tiny = load_profile("tiny")
    name = "gated-blendmask-mobilenetv2"
    usual = tiny.run_of("blendmask-tiny", {}, 0).options
    assert tiny.run_of(name, {}, 0).options == usual | {"backbone_weights": "imagenet"}
    scratch = {"backbone_weights": None}
    assert tiny.run_of(name, scratch, 0).options == usual | scratch
    own = tiny.model_copy(update={"options": scratch})
    assert own.run_of(name, {}, 0).options == scratch
    assert tiny.run_of("blendmask-r18", {}, 0).options == usual
    offering = tiny.model_copy(update={"variants": {"mobilenetv2": "mobilenetv2"}})
    row = Row(name="a row", model="gated-blendmask", variant="mobilenetv2")
    assert row.run_spec(offering, 0) == tiny.run_of(name, {}, 0)


def test_seeds_are_those_that_numpy_takes() -> None:
    profile = load_profile("smoke")
    np.random.RandomState(2**32 - 1)
    assert profile.run_spec("blendmask", {}, 2**32 - 1).seed == 2**32 - 1
    with pytest.raises(ValueError, match="between 0 and"):
        np.random.RandomState(2**32)
    with pytest.raises(SpecError, match=r"^profile smoke: 'seed': .* \(got 4294967296\)$"):
        profile.run_spec("blendmask", {}, 2**32)


def test_a_row_may_ask_for_a_variant_and_a_longer_schedule() -> None:
    profile = load_profile("coco-1x")
    run = Row(name="a row", model="blendmask", variant="r101", schedule=3).run_spec(profile, 0)
    assert run.model == "blendmask-r101"
    assert run.schedule == load_profile("coco-3x").schedule
    same = Row(name="a row", model="blendmask", variant="r50").run_spec(profile, 0)
    assert same == profile.run_spec("blendmask", {}, 0)


def test_variants_are_what_the_profile_makes_of_them() -> None:
    profile = load_profile("tiny")
    for variant in ("r50", "r101", "tiny", None):
        row = Row(name="a row", model="yolact", variant=variant)
        assert row.run_spec(profile, 0).model == "yolact-tiny"
    sizes = [profile.size_of(variant) for variant in (None, "tiny", "r101", "r18")]
    assert sizes == ["tiny", "tiny", "tiny", None]


def _mine(tmp_path: Path, text: str) -> str:
    (tmp_path / "mine.yaml").write_text(text)
    return str(tmp_path / "mine.yaml")


def test_a_profile_extends_another_by_what_differs(tmp_path: Path) -> None:
    name = _mine(
        tmp_path, "extends: tiny\ndescription: mine\nschedule: {iterations: 900}\nseeds: [4]"
    )
    mine, tiny = load_profile(name), load_profile("tiny")
    assert (mine.name, mine.description, mine.seeds) == ("mine", "mine", (4,))
    assert mine.schedule == tiny.schedule.model_copy(update={"iterations": 900})
    changed = {"name", "description", "schedule", "seeds"}
    assert mine.model_dump(exclude=changed) == tiny.model_dump(exclude=changed)


def test_files_lie_beside_the_profile_that_names_them_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "folder").mkdir()
    text = "extends: base.yaml\nstart: weights\nrecipes: {yolact: ../recipe.yaml}"
    name = _mine(folder, text)
    monkeypatch.chdir(tmp_path)
    for place, iterations in ((tmp_path, 3), (folder, 4)):  # beside comes first
        (place / "base.yaml").write_text(f"extends: smoke\nschedule: {{iterations: {iterations}}}")
        (place / "weights").write_text(str(iterations))
        (tmp_path / "recipe.yaml").write_text("extends: tiny")
        plan = load_profile(name)
        assert plan.schedule.iterations == iterations
        assert plan.start == StartFile.of(place / "weights")
        assert plan.recipes["yolact"].schedule == load_profile("tiny").schedule


def test_data_of_another_kind_are_those_of_the_file_alone(tmp_path: Path) -> None:
    kept = load_profile(_mine(tmp_path, "extends: smoke\ndata: {size: 64}")).data
    assert kept == load_profile("smoke").data.model_copy(update={"size": 64})
    plan = load_profile(_mine(tmp_path, "extends: smoke\ndata: {kind: coco, val: a}"))
    assert plan.data == CocoData(val="a")


def test_a_profile_needs_no_description(tmp_path: Path) -> None:
    name = _mine(tmp_path, "extends: tiny\nseeds: [4]")
    assert load_profile(name).description == ""


def test_a_family_may_follow_another_profile(tmp_path: Path) -> None:
    """Also one that extends a profile whose recipes it is itself among."""
    mine = load_profile(
        _mine(tmp_path, "extends: coco-1x\ndescription: x\nrecipes: {condinst: coco-3x}")
    )
    specs = {f: mine.run_spec(f, {}, 0) for f in ("b2inst-condinst", "b2inst-yolact", "blendmask")}
    found = {family: spec.schedule.iterations for family, spec in specs.items()}
    assert found == {"b2inst-condinst": 270_000, "b2inst-yolact": 800_000, "blendmask": 90_000}
    assert specs["b2inst-condinst"].augmentation == load_profile("coco-3x").augmentation
    assert "attention_size" not in specs["b2inst-condinst"].options


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: tinny\ndescription: x", "mine.yaml: no profile 'tinny'; there are .*tiny"),
        ("extends: other.yaml", "mine.yaml: other.yaml: no such file"),
        ("extends: tiny\nseeds: [0, 0]", r"mine.yaml: seeds \[0, 0\]: give each one once"),
        ("extends: tiny\nseeds: [4294967296]", "mine.yaml: 'seeds.0': .*4294967295"),
        ("extends: tiny\ncolumns: [Q]", r"mine.yaml: .*columns \['Q'\]; there are AP, .*PQ"),
        ("extends: tiny\ncolumns: [FPS]", r"mine.yaml: unknown columns \['FPS'\]"),
        ("extends: tiny\ndescription: x\nschedule: {batchsize: 3}", "mean 'batch_size'"),
        ("extends: {here}\ndescription: x", "mine.yaml: extends itself"),
        ("extends: tiny\ndescription: x\nrecipes: [yolact]", "mine.yaml: 'recipes'"),
        ("extends: tiny\ndescription: x\nrecipes: {yolact: none}", "mine.yaml: no profile 'none'"),
        ("extends: tiny\ndescription: x\nstart: gone.pth", "'start': gone.pth: no such weights"),
    ],
)
def test_mistakes_in_extending(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_profile(_mine(tmp_path, text.replace("{here}", str(tmp_path / "mine.yaml"))))


def test_a_name_may_say_the_size_of_the_batch(tmp_path: Path) -> None:
    plan, tiny = load_profile("tiny-batch16"), load_profile("tiny")
    assert (plan.name, plan.data) == ("tiny-batch16", tiny.data)
    assert plan.schedule == tiny.schedule.for_batch(16)
    mine = load_profile(_mine(tmp_path, "extends: tiny\ndescription: x") + "-batch4")
    assert (mine.name, mine.schedule) == ("mine-batch4", tiny.schedule.for_batch(4))
    yolact = load_profile("coco-1x-batch32").run_spec("yolact", {}, 0)
    assert yolact.schedule == load_profile("yolact-800k").schedule.for_batch(32)
    with pytest.raises(SpecError, match="no profile 'tiny-batch0'"):
        load_profile("tiny-batch0")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Weights of a small BlendMask."""
    path = tmp_path / "trained.safetensors"
    save_model(create_model("blendmask-tiny", num_classes=3, attention_size=5), path)
    return path


def test_weights_to_start_from_are_every_runs(tmp_path: Path, trained: Path) -> None:
    by_call = load_profile("coco-1x", start=trained)
    by_file = load_profile(_mine(tmp_path, f"extends: coco-1x\ndescription: x\nstart: {trained}"))
    for plan in (by_call, by_file):
        for family in ("blendmask", "b2inst-blendmask"):
            run = plan.run_spec(family, {}, 0)
            assert run.start == StartFile.of(trained)
            assert run.options == {"attention_size": 5, "shorter": 800, "longer_max": 1333}
    assert by_call.run_spec("blendmask", {"attention_size": 9}, 0).options["attention_size"] == 9
    assert load_profile("coco-1x").run_spec("blendmask", {}, 0).start is None


def test_a_model_starts_from_the_weights_of_another_without_their_options(trained: Path) -> None:
    plan = load_profile("tiny", start=trained)
    assert plan.run_of("blendmask-tiny", {}, 0).options["attention_size"] == 5
    assert "attention_size" not in plan.run_of("pointrend-tiny", {}, 0).options


def test_weights_to_start_from_take_the_place_of_imagenets(trained: Path) -> None:
    plan = load_profile("tiny", start=trained)
    assert "backbone_weights" not in plan.run_of("blendmask-mobilenetv2", {}, 0).options


def test_fine_tuning_asks_for_weights(trained: Path) -> None:
    with pytest.raises(SpecError, match=r"profile finetune starts from trained weights: .*--start"):
        load_profile("finetune").run_spec("blendmask", {}, 0)
    plan = load_profile("finetune", start=trained)
    assert plan.run_spec("blendmask", {}, 0).start == StartFile.of(trained)
    # Five rows in a GPU-day, by detectron2's 0.261 s for 16 images on 8 V100 (docs/scaling.md).
    assert 5 * plan.schedule.iterations * 0.261 * 8 < 86_400
