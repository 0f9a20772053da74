from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from b2inst.models import (
    CATALOG,
    WITHOUT_BASES,
    BasisSegmenter,
    TwoStageSegmenter,
    baseline_of,
    create_model,
)
from b2inst.modules.basis_heads import BasisHead
from b2inst.modules.boundary_basis import BoundaryBasis, BoundarySupervision
from b2inst.modules.fcos_head import FCOSHead
from b2inst.structures import Targets


def create(name: str, **options: Any) -> BasisSegmenter:
    """Without memory for weights, so that the large ones are quick too."""
    with torch.device("meta"):
        return create_model(name, **{"num_classes": 80, **options})


def parameters(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_name_builds(name: str) -> None:
    model = create(name)
    assert isinstance(model, TwoStageSegmenter) == (name.rpartition("-")[0] in WITHOUT_BASES)
    if isinstance(model, BasisSegmenter):
        assert (model.scoring_head is not None) == name.startswith(("b2inst-", "gated-"))
        assert isinstance(model.basis_head, BoundaryBasis) == name.startswith("b2inst-")
        assert isinstance(model.basis_head, BoundarySupervision) == (name != baseline_of(name))
        assert (model.assembler.refinement is not None) == name.startswith("gated-")
    assert model.recipe == {"name": name, "num_classes": 80, "options": {}}


@pytest.mark.parametrize("name", sorted(n for n in CATALOG if n.endswith("-tiny")))
def test_every_family_trains_in_bfloat16_on_a_cpu(
    name: str, make_targets: Callable[..., Targets]
) -> None:
    model = create_model(name, num_classes=3).train()
    images = list(torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8))
    targets = [
        make_targets((96, 96), [(0, 0, 30, 30), (20, 10, 80, 96)], [0, 1]),
        make_targets((96, 96), [(8, 8, 90, 90)]),
    ]
    seen = []
    model.backbone.register_forward_hook(lambda _, images, maps: seen.extend(maps.values()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(images, targets)
    assert {maps.dtype for maps in seen} == {torch.bfloat16}
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.parameters())


def test_the_names_of_the_contract_are_there() -> None:
    families = ("blendmask", "b2inst-blendmask")
    assert set(CATALOG) >= {f"{f}-{v}" for f in families for v in ("tiny", "r50", "r101")}


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_a_gated_model_has_the_boundary_beside_the_bases(family: str) -> None:
    plain, gated = create(f"{family}-r50"), create(f"gated-{family}-r50")
    assert baseline_of(f"gated-{family}-r50") == baseline_of(f"b2inst-{family}") + "-r50"
    assert gated.basis_head.num_bases == plain.basis_head.num_bases
    added = set(gated.state_dict()) - set(plain.state_dict())
    assert {name.partition(".")[0] for name in added if "refinement" not in name} == {
        "basis_head",
        "scoring_head",
    }
    assert len([name for name in added if "refinement" in name]) == 2  # two scalars


def test_what_convolves_after_the_gate_has_both() -> None:
    model = create("gated-convs-yolact-r50")
    parts = [type(part).__name__ for part in model.assembler.refinement.refinements]
    assert parts == ["BoundaryDiffusion", "ConvRefinement"]
    assert baseline_of("gated-convs-yolact-r50") == "yolact-r50"


def test_an_unknown_refinement_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['blur'\].*'diffusion', 'convs'"):
        create("blendmask-tiny", refine={"blur": {}})


def test_blendmask_is_as_large_as_the_published_one() -> None:
    """Millions of parameters as blendmask_facts.md counts them; frozen norms are no parameters."""
    model = create("blendmask-r50", attention_size=14, frozen_norm=True)
    head = model.instance_head
    assert isinstance(head, FCOSHead)
    assert parameters(model.backbone) == pytest.approx(27.32, abs=0.06)
    assert parameters(head) - parameters(head.coefficients) == pytest.approx(4.92, abs=0.005)
    assert parameters(head.coefficients) == pytest.approx(1.81, abs=0.005)
    assert parameters(model.basis_head) == pytest.approx(1.93, abs=0.005)


@pytest.mark.parametrize("size", [7, 14])
def test_attention_size_sets_the_number_of_coefficients(size: int) -> None:
    head = create("blendmask-r50", attention_size=size).instance_head
    assert isinstance(head, FCOSHead)
    assert head.coefficients.out_channels == 4 * size * size


def test_rows_of_table_1_differ_by_parts_alone() -> None:
    baseline = create("blendmask-tiny")
    boundary = create("blendmask-tiny", boundary={})
    iou = create("blendmask-tiny", scoring=("iou",))
    full = create("b2inst-blendmask-tiny")
    assert isinstance(baseline.basis_head, BasisHead)
    assert isinstance(boundary.basis_head, BoundaryBasis)
    assert boundary.basis_head.num_bases == baseline.basis_head.num_bases + 1
    assert iou.scoring_head is not None
    assert set(iou.scoring_head.branches) == {"iou"}
    both = create("blendmask-tiny", boundary={}, scoring=("iou", "boundary"))
    assert set(both.state_dict()) == set(full.state_dict())


def test_a_boundary_without_its_own_branch_is_one_more_map_of_the_basis_head() -> None:
    head = create("blendmask-tiny", boundary={"branch_channels": 0}).basis_head
    assert isinstance(head, BoundaryBasis)
    assert head.branch is None
    assert head.basis_head.num_bases == head.num_bases == 5
    own = create("blendmask-tiny", boundary={"branch_channels": 8}).basis_head
    assert isinstance(own, BoundaryBasis)
    assert own.branch is not None
    assert (own.basis_head.num_bases, own.branch.num_bases) == (4, 1)


#: Table 2's designs: the boundary's options; levels its branch reads; whether it joins the bases;
#: whether its loss sees each box alone.
DESIGNS = {
    "a": ({"local": True, "as_basis": False}, (4,), False, True),
    "b": ({"fused": True, "as_basis": False}, (4, 8, 16, 32), False, False),
    "c": ({"fused": True}, (4, 8, 16, 32), True, False),
    "d": ({"as_basis": False}, (4,), False, False),
    "e": ({}, (4,), True, False),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_the_designs_of_table_2_are_compositions(design: str) -> None:
    options, strides, joins, local = DESIGNS[design]
    model = create("b2inst-blendmask-tiny", scoring=(), boundary=options)
    head = model.basis_head
    assert isinstance(head, BoundarySupervision)
    assert isinstance(head, BoundaryBasis) == joins
    assert head.branch is not None
    assert head.branch.strides == strides
    assert head.criterion.local == local
    assert model.assembler.num_coefficients == (4 + joins) * 49


def test_a_fused_branch_of_a_resnet_reads_p3_to_p5() -> None:
    head = create("b2inst-blendmask-r50", boundary={"fused": True}).basis_head
    assert isinstance(head, BoundaryBasis)
    assert head.branch is not None
    assert head.branch.strides == (8, 16, 32)


def test_shared_parts_start_from_equal_weights_whatever_else_there_is() -> None:
    def weights(name: str, seed: int = 3, **options: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return create_model(name, num_classes=4, **options).state_dict()

    baseline = weights("blendmask-tiny")
    own = "instance_head.coefficients"
    for options in ({}, {"scoring": ()}, {"boundary": {"fused": True}}, {"scoring": ("iou",)}):
        other = weights("b2inst-blendmask-tiny", **options)
        other = {k.replace("basis_head.basis_head", "basis_head"): v for k, v in other.items()}
        shared = [k for k in baseline if not k.startswith(own)]
        assert all(baseline[k].equal(other[k]) for k in shared)
    full, one = weights("b2inst-blendmask-tiny"), weights("blendmask-tiny", scoring=("boundary",))
    assert full["scoring_head.convs.0.weight"].equal(one["scoring_head.convs.0.weight"])
    name = "backbone.stem.0.weight"
    assert not baseline[name].equal(weights("blendmask-tiny", seed=4)[name])
    torch.manual_seed(3)
    first, second = (create_model("blendmask-tiny", num_classes=4) for _ in range(2))
    assert not first.state_dict()[name].equal(second.state_dict()[name])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("blendmask-r5", {}, "unknown model 'blendmask-r5'; did you mean 'blendmask-r50'"),
        (
            "blendmask-tiny",
            {"atention_size": 7},
            r"blendmask-tiny has no option atention_size; it has",
        ),
        ("blendmask-tiny", {"boundary": {"wight": 1}}, r"options of blendmask-tiny: .*wight"),
        (
            "blendmask-tiny",
            {"attention_size": "big"},
            "attention_size is 'big'; give a value like 7",
        ),
        ("yolact-mobilenetv2", {"size": [96]}, r"size is \[96\]; give a value like 320"),
        ("blendmask-tiny", {"scoring": 1}, "scoring is 1; give a value like"),
        ("blendmask-tiny", {"scoring": ("dice",)}, r"\['dice'\]: choose from"),
        ("fcispp-tiny", {"scales": ["a"]}, r"scales is \['a'\]; give a value like \(0.6, "),
        ("fcis-tiny", {"scales": [1.0, "a"]}, r"scales is \[1.0, 'a'\]; give a value like"),
        ("fcispp-tiny", {"scales": [float("inf")]}, r"scales is \[inf\]; give a value like"),
        ("condinst-tiny", {"head_strides": ["8"]}, r"head_strides is \['8'\]; give a value like"),
        ("blendmask-tiny", {"scoring": ["iou", 1]}, r"scoring is \['iou', 1\]; give a value like"),
        ("maskrcnn-tiny", {"mask_head": "big"}, "is 'big'; give a class, .*such as RoIMaskHead"),
        ("mnc-tiny", {"detector": "foo"}, "is 'foo'; give a class, .*such as MNCDetector"),
        ("blendmask-tiny", {"scoring": ["iou", "iou"]}, r"\['iou', 'iou'\]; give .* \('iou', 'b"),
        ("b2inst-blendmask-tiny", {"boundary": True}, "boundary is True; give a value like {}"),
        ("condinst-tiny", {"boundary": "yes"}, "boundary is 'yes'; give a value like {}"),
        ("gated-yolact-tiny", {"refine": ["diffusion"]}, r"refine is \['diffusion'\]; give"),
        (
            "blendmask-tiny",
            {"refine": {"diffusion": True}},
            "options of blendmask-tiny: .* mapping",
        ),
        ("blendmask-tiny", {"boundary": {"branch_channels": "x"}}, "options of blendmask-tiny: "),
        ("blendmask-tiny", {"boundary": {1: 2}}, "options of blendmask-tiny: keywords must be"),
        ("blendmask-tiny", {"oracle": 3}, "oracle is 3; give a value like {}"),
        ("blendmask-r50", {"frozen_norm": "no"}, "frozen_norm is 'no'; give a value like True"),
        ("blendmask-r50", {"top_levels": [1]}, r"top_levels is \[1\]; give a value like 2"),
        ("condinst-tiny", {"best_per_image": 0}, "best_per_image is 0; give a value like 64"),
        ("yolact-tiny", {"prior_sizes": 24}, r"prior_sizes is 24; give a value like \(24, 48"),
        ("blendmask-tiny", {"attention_size": None}, "options of blendmask-tiny: .*NoneType"),
        ("blendmask-tiny", {"basis_stride": 3}, "basis_stride 3: choose a divisor of 4"),
        ("blendmask-tiny", {"basis_stride": 8}, "basis_stride 8: choose a divisor of 4"),
        ("blendmask-r50", {"basis_stride": 16}, "basis_stride 16: choose a divisor of 8"),
        ("blendmask-tiny", {"class_names": "ab", "num_classes": 2}, "class_names 'ab': give a seq"),
        (
            "blendmask-tiny",
            {"class_names": ("one",)},
            r"class_names has length 1, num_classes is 80",
        ),
        ("blendmask-tiny", {"num_classes": 2.5}, r"num_classes 2\.5: give a whole number"),
        ("blendmask-tiny", {"num_classes": "3"}, "num_classes '3': give a whole number"),
        ("pointrend-tiny", {"max_detections": 2.5}, r"max_detections 2\.5: give a whole number"),
        (
            "pointrend-tiny",
            {"max_detections": 0},
            "max_detections 0: give a whole number, 1 or more",
        ),
        ("centermask-tiny", {"shorter": 0}, "shorter is 0; give a value like 96"),
        ("blendmask-tiny", {"shorter": -5}, "shorter is -5; give a value like 96"),
        ("blendmask-tiny", {"attention_size": True}, "attention_size is True; give a value like 7"),
        ("fcispp-tiny", {"scales": [1, -1]}, r"scales is \[1, -1\]; give a value like \(0\.6,"),
        ("pointrend-tiny", {"mask_head": "x"}, "mask_head is 'x'; give a class"),
        ("centermask-tiny", {"head_strides": [3]}, r"head_strides \[3\]: choose from \[4, 8"),
        ("yolact-r50", {"head_strides": [8, 3]}, r"head_strides \[8, 3\]: choose from \[8, 16"),
        ("blendmask-r50", {"backbone": "vgg"}, r"backbone 'vgg': choose from \['tiny'"),
        ("masklab-tiny", {"scoring": True}, "scoring: masks of MaskLabHead cannot be rated"),
        ("yolact-r50", {"head_strides": [8, 16]}, r"head_strides \[8, 16\] and prior_sizes \["),
        ("blendmask-r18", {"msra": True}, r"bottleneck ResNet"),
        ("blendmask-r50", {"backbone_weights": "coco"}, r"'coco': choose 'imagenet' or None"),
    ],
)
def test_wrong_names_and_options_are_said_clearly(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, **options)


def test_options_may_be_left_out_and_class_names_be_a_list() -> None:
    nothing: dict[str, Any] = {"boundary": None, "refine": None, "shorter": None}
    model = create("b2inst-blendmask-tiny", num_classes=2, class_names=["a", "a"], **nothing)
    assert model.class_names == ("a", "a")  # COCO's categories may have equal names
    assert isinstance(model.basis_head, BasisHead)


def test_numpy_s_numbers_become_python_s() -> None:
    model = create_model(
        "blendmask-tiny",
        num_classes=np.int64(3),  # type: ignore[arg-type]
        max_detections=np.int32(7),  # type: ignore[arg-type]
        num_bases=np.int64(5),
        head_strides=(np.int64(8), np.int64(16)),
        boundary={"bce_weight": np.float32(2)},
    )
    options = {"num_bases": 5, "head_strides": [8, 16], "boundary": {"bce_weight": 2.0}}
    options["max_detections"] = 7
    recipe = {"name": "blendmask-tiny", "num_classes": 3, "options": options}
    assert json.loads(json.dumps(model.recipe)) == recipe


def test_a_model_on_mobilenet_has_the_options_of_its_family() -> None:
    model = create("b2inst-yolact-mobilenetv2", size=96, scoring=("iou",))
    assert model.preprocessor.fixed_size == (96, 96)
    with pytest.raises(ValueError, match=r"has no option shorter; it has .*frozen_norm.* size"):
        create("b2inst-yolact-mobilenetv2", shorter=96)


def test_the_recipe_says_what_was_built_but_not_what_weights_it_started_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("b2inst.models.building.load_imagenet", lambda *_: None)
    model = create("blendmask-r18", backbone_weights="imagenet", attention_size=14)
    assert model.recipe["options"] == {"attention_size": 14, "frozen_norm": True}
    again = create("blendmask-r18", **model.recipe["options"])
    assert set(again.state_dict()) == set(model.state_dict())
