"""The paper's Table 4, typed again from its text, against ``experiments/table4.yaml``."""

from __future__ import annotations

import pytest

from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import load_table
from b2inst.models import CATALOG

# Method   epochs Aug   AP AP50 AP75 APs APm APl of masks, as printed
PRINTED = {
    "R-50": """
        Mask R-CNN 12 34.6 56.5 36.6 15.4 36.3 49.7
        MS R-CNN 12 35.8 56.5 38.4 16.2 37.4 51.0
        BMask R-CNN 12 35.9 57.0 38.6 15.8 37.6 52.2
        TensorMask 72 X 35.5 57.3 37.4 16.6 37.0 49.1
        CondInst 12 X 35.9 56.4 37.6 18.4 37.9 46.9
        PointRend 12 36.3 - - - - -
        Blendmask 12 34.3 55.4 36.6 14.9 36.4 48.9
        Blendmask* 12 X 35.8 56.4 38.3 16.9 38.8 51.1
        B2Inst-Blend 12 X 36.9 55.6 40.0 17.3 39.9 52.6
        B2Inst-Blend 36 X 39.0 58.7 42.3 19.9 42.0 55.4""",
    "R-101": """
        MNC 12 24.6 44.3 24.8 4.7 25.9 43.6
        FCIS 12 29.2 49.5 - - - -
        FCIS++ 12 33.6 54.5 - - - -
        MaskLab 12 35.4 57.4 37.4 16.9 38.3 49.2
        Mask R-CNN 12 36.2 58.6 38.4 16.4 38.4 52.1
        MS R-CNN 12 37.5 58.7 40.2 17.2 39.5 53.0
        BMask R-CNN 12 37.7 59.3 40.6 16.8 39.9 54.6
        Mask R-CNN* 36 X 38.8 60.9 41.9 21.8 41.4 50.5
        YOLACT-700 54 X 31.2 50.6 32.8 12.1 33.3 47.1
        TensorMask 72 X 37.3 59.5 39.5 17.5 39.3 51.6
        CondInst 36 X 39.1 60.9 42.0 21.5 41.7 50.9
        Centermask* 36 X 39.8 - - 21.7 42.5 52.0
        PointRend 36 X 39.8 - - - - -
        Blendmask 36 X 38.4 60.7 41.3 18.2 41.5 53.3
        Blendmask* 36 X 39.5 61.1 42.3 19.5 42.9 56.2
        B2Inst-Blend 12 X 38.9 58.4 42.1 18.4 42.3 55.6
        B2Inst-Blend 36 X 40.8 61.0 44.2 19.8 44.1 58.3""",
}
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@pytest.mark.parametrize("backbone", PRINTED)
def test_cells_are_the_papers(backbone: str) -> None:
    rows = [
        r for r in load_table("table4").rows if (r.source or "").startswith(f"Table 4, {backbone}")
    ]
    lines = [line.rsplit(maxsplit=6) for line in PRINTED[backbone].strip().splitlines()]
    for number, (row, (method, *cells)) in enumerate(zip(rows, lines, strict=True), start=1):
        words = method.split()
        multi_scale = words[-1] == "X"
        name, epochs = (
            " ".join(words[: -2 if multi_scale else -1]),
            int(words[-2 if multi_scale else -1]),
        )
        assert row.name in (f"{name} {backbone}", f"{name} {backbone} {epochs}")
        assert row.setting is not None
        assert row.setting.model_dump() == {
            "backbone": backbone,
            "epochs": epochs,
            "multi_scale": multi_scale,
        }
        printed = zip(METRICS, cells, strict=True)
        assert row.paper == {metric: float(cell) for metric, cell in printed if cell != "-"}
        assert row.source == f"Table 4, {backbone} row {number}"
        assert row.origin


def test_rows_of_the_papers_have_its_backbone_and_schedule() -> None:
    for row in load_table("table4").rows:
        if row.model is None:
            continue
        assert row.group is not None
        backbone = row.group.partition(",")[0]
        assert row.variant == backbone.lower().replace("-", "")
        if row.setting is not None:
            assert row.setting.backbone == backbone
            # YOLACT's 54 epochs are its own recipe, which a profile says.
            assert row.schedule == (1 if row.model == "yolact" else row.setting.epochs / 12)


def test_every_row_of_the_paper_is_run_where_the_profile_has_its_backbone() -> None:
    table = load_table("table4")
    names = ("smoke", "tiny", "nuclei", "coco-1x", "small")
    runs = {name: table.run_specs(load_profile(name), (0,)) for name in names}
    for name in ("smoke", "tiny", "nuclei", "coco-1x"):
        assert list(runs[name]) == [row.name for row in table.rows]
    assert list(runs["small"]) == [row.name for row in table.rows if row.variant == "r50"]
    assert {spec.model for rows in runs.values() for (spec,) in rows.values()} <= set(CATALOG)


def test_rows_of_both_backbones_share_a_run_where_a_profile_has_one() -> None:
    tiny = load_table("table4").run_specs(load_profile("tiny"), (0, 1))
    for method in ("Mask R-CNN", "MS R-CNN", "BMask R-CNN", "TensorMask"):
        assert tiny[f"{method} R-101"] == tiny[f"{method} R-50"]
    assert tiny["B2Inst-Blend R-101 36"] == tiny["B2Inst-Blend R-50 36"]
    assert tiny["Mask R-CNN* R-101"] != tiny["Mask R-CNN R-101"]  # three times as long


def test_yolact_700_is_yolact_on_larger_images() -> None:
    table = load_table("table4")
    (coco,) = table.run_specs(load_profile("coco-1x"), (0,))["YOLACT-700 R-101"]
    assert coco == load_profile("coco-1x").run_of("yolact-r101", {}, 0).with_image_size(700)
    assert coco.options["size"] == 700
    assert (coco.augmentation.shorter, coco.augmentation.longer_max) == ((700,), 700)
    assert coco.augmentation.ssd  # in place of several sizes
    (tiny,) = table.run_specs(load_profile("tiny"), (0,))["YOLACT-700 R-101"]
    assert tiny.options["size"] == round(96 * 700 / 550)
    nuclei = table.run_specs(load_profile("nuclei"), (0,))  # looks at images at their own size
    assert nuclei["YOLACT-700 R-101"] == nuclei["YOLACT R-50"]


@pytest.mark.parametrize("profile", ["smoke", "tiny", "small", "coco-1x"])
def test_pairs_of_table_3_are_trained_once(profile: str) -> None:
    plan = load_profile(profile)
    three, four = (load_table(name).run_specs(plan, (0, 1)) for name in ("table3", "table4"))
    for row in ("YOLACT", "B2Inst-YOLACT"):
        assert [s.hash for s in three[row]] == [s.hash for s in four[f"{row} R-50"]]


def test_multi_scale_rows_draw_their_sizes_where_the_profile_has_several() -> None:
    (plain,), (several,) = (
        load_table("table4").run_specs(load_profile("coco-1x"), (0,))[row]
        for row in ("Blendmask R-50", "Blendmask* R-50")
    )
    assert plain.augmentation.shorter == (800,)
    assert several.augmentation.shorter == (640, 672, 704, 736, 768, 800)
    assert several.model_copy(update={"augmentation": plain.augmentation}) == plain
    tiny = load_table("table4").run_specs(load_profile("tiny"), (0,))
    assert tiny["Blendmask R-50"] == tiny["Blendmask* R-50"]


def test_the_longer_row_is_three_times_as_long() -> None:
    for profile in ("tiny", "coco-1x"):
        runs = load_table("table4").run_specs(load_profile(profile), (0,))
        (short,), (long,) = (runs[f"B2Inst-Blend R-50 {epochs}"] for epochs in (12, 36))
        assert long.schedule.iterations == 3 * short.schedule.iterations
