from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from torch import Tensor, nn

from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.boundary_basis import BoundarySupervision
from b2inst.viz.diagram import Wiring, diagram_figure, find_wiring

LEVELS = (4, 8, 16, 32)
BASELINE = Wiring(levels=LEVELS, num_bases=4, bases_read=(4,))
E = replace(BASELINE, boundary_read=(4,), loss="over the image", use=("a basis",))
RED = "#cc0000"


def model(boundary: dict[str, Any] | None, **options: Any) -> BasisSegmenter:
    torch.manual_seed(0)
    return create_model("blendmask-tiny", num_classes=2, boundary=boundary, **options)


#: The paper's Table 2, in its own words: Local/Global, Fusion/Single, Loss/Loss + Pred.
DESIGNS: dict[str, tuple[dict[str, Any] | None, Wiring]] = {
    "baseline": (None, BASELINE),
    "(a)": ({"local": True, "as_basis": False}, replace(E, loss="in each box", use=())),
    "(b)": ({"fused": True, "as_basis": False}, replace(E, boundary_read=LEVELS, use=())),
    "(c)": ({"fused": True}, replace(E, boundary_read=LEVELS)),
    "(d)": ({"as_basis": False}, replace(E, use=())),
    "(e)": ({}, E),
    "shared": ({"branch_channels": 0}, replace(E, shared=True)),
    "no loss": ({"bce_weight": 0, "dice_weight": 0}, replace(E, loss=None)),
}


@pytest.mark.parametrize(("options", "expected"), DESIGNS.values(), ids=DESIGNS)
def test_each_design_is_found(options: dict[str, Any] | None, expected: Wiring) -> None:
    assert find_wiring(model(options)) == expected


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_each_family_has_a_diagram(family: str) -> None:
    def build(name: str) -> BasisSegmenter:
        return create_model(f"{name}{family}-tiny", num_classes=2)

    plain, b2inst, gate = (find_wiring(build(name)) for name in ("", "b2inst-", "gated-"))
    assert [w.use for w in (plain, b2inst, gate)] == [(), ("a basis",), ("a gate",)]
    both = create_model(f"gated-{family}-tiny", num_classes=2, boundary={"as_basis": True})
    assert find_wiring(both).use == ("a basis", "a gate")
    assert plain.num_bases == b2inst.num_bases == build("").assembler.num_bases
    assert plain.bases_read == b2inst.bases_read
    figure = diagram_figure({name: build(name) for name in ("", "b2inst-", "gated-")})
    assert [bool(arrows(axis)[RED]) for axis in figure.axes] == [False, True, True]


def test_a_level_that_is_cut_off_is_not_read() -> None:
    class Deaf(nn.Module):
        def forward(self, level: Tensor) -> Tensor:
            return level.new_zeros(len(level), 16, *level.shape[-2:])

    built = model({"fused": True})
    assert isinstance(built.basis_head, BoundarySupervision)
    assert built.basis_head.branch is not None
    built.basis_head.branch.refine[2] = Deaf()
    assert find_wiring(built).boundary_read == (4, 8, 32)


def test_looking_changes_neither_the_model_nor_the_random_numbers() -> None:
    built = model({}).train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    state = torch.get_rng_state()
    find_wiring(built)
    assert built.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())


def drawn(options: dict[str, Any] | None, **more: Any) -> Axes:
    return diagram_figure({"x": model(options, **more)}).axes[0]


def words(axis: Axes) -> set[str]:
    return {text.get_text().replace("\n", " ") for text in axis.texts} - {""}


def tiles(axis: Axes) -> Counter[str]:
    """Colours of the unit squares."""
    squares = [p for p in axis.patches if isinstance(p, Rectangle) and p.get_width() == 1.0]
    return Counter(to_hex(square.get_facecolor()) for square in squares)


def arrows(axis: Axes) -> Counter[str]:
    found = [t for t in axis.texts if isinstance(t, Annotation) and t.arrow_patch is not None]
    return Counter(to_hex(arrow.arrow_patch.get_edgecolor()) for arrow in found)


def test_a_baseline_has_its_levels_and_bases_and_nothing_red() -> None:
    axis = drawn(None, num_bases=32)
    assert words(axis) == {"1/4", "1/8", "1/16", "1/32", "basis head", "compose masks"}
    assert tiles(axis).total() == 32
    assert RED not in tiles(axis) | arrows(axis)
    colours = {text.get_text(): text.get_color() for text in axis.texts}
    assert colours["1/4"] != colours["1/8"] == colours["1/16"]


def test_the_boundary_is_red_and_each_connection_an_arrow() -> None:
    axis = drawn({})
    assert tiles(axis)[RED] == 1
    assert {"boundary branch", "loss over the image", "as a basis"} <= words(axis)
    assert arrows(drawn({"fused": True}))[RED] == arrows(axis)[RED] + 3
    assert arrows(drawn({"as_basis": False}))[RED] == arrows(axis)[RED] - 1
    assert "loss in each box" in words(drawn({"local": True}))
    shared = words(drawn({"branch_channels": 0}))
    assert "shared head" in shared
    assert not {"basis head", "boundary branch"} & shared


def test_models_stand_side_by_side_under_their_names() -> None:
    figure = diagram_figure(dict.fromkeys(("one", "two", "three", "four"), model(None)))
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three", "four", "", ""]
    assert [axis.get_subplotspec().rowspan.start for axis in figure.axes] == [0, 0, 0, 1, 1, 1]
