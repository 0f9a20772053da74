"""The tables that are ours: what their rows are, and that they say so."""

from __future__ import annotations

import pytest

from b2inst.experiments import load_profile, load_table
from b2inst.experiments.runs.runner import build_model
from b2inst.models import BasisSegmenter
from b2inst.modules.boundary_basis import BoundaryBasis, BoundarySupervision
from b2inst.modules.refinement import BoundaryDiffusion

TABLES = ("beyond", "beyond-schedule", "beyond-steps")


def models(name: str = "beyond") -> dict[str, BasisSegmenter]:
    specs = load_table(name).run_specs(load_profile("beyond"), (0,))
    built = {}
    for row, (spec,) in specs.items():
        model = build_model(spec, class_names=("a", "b"))
        assert isinstance(model, BasisSegmenter)
        built[row] = model
    return built


@pytest.mark.parametrize("name", TABLES)
def test_no_number_in_them_is_the_papers(name: str) -> None:
    table = load_table(name)
    assert table.source.startswith("none")
    assert not any(row.paper for row in table.rows)
    assert all(row.model is not None for row in table.rows)


def test_tests_are_on_a_thousand_scenes_of_their_own() -> None:
    beyond, tiny = load_profile("beyond"), load_profile("tiny")
    assert beyond.data.test.images == 1000
    assert beyond.data.train == tiny.data.train
    assert beyond.schedule == tiny.schedule
    seeds = {getattr(p.data, s).seed for p in (beyond, tiny) for s in ("train", "val", "test")}
    assert len(seeds) == 4  # no split in common but train and val, which are the same
    assert len(beyond.seeds) >= 5


def test_rows_have_the_parts_that_they_are_named_for() -> None:
    rows = models()
    assert all(set(m.scoring_head.branches) == {"iou", "boundary"} for m in rows.values())
    oracles = {name for name, m in rows.items() if m.oracle is not None}
    assert oracles == {"true boundary as basis", "gate, true boundary"}
    as_basis = {name for name, m in rows.items() if isinstance(m.basis_head, BoundaryBasis)}
    assert as_basis == {"HBB", "K+1 basis"} | {n for n in rows if n.startswith("basis and gate")}
    predicted = {n for n, m in rows.items() if isinstance(m.basis_head, BoundarySupervision)}
    gates = {n for n in rows if "gate" in n and "true" not in n}
    assert predicted == as_basis | gates
    taught = {n for n in predicted if any(rows[n].basis_head.criterion.weights.values())}
    assert predicted - taught == {n for n in predicted if "unsupervised" in n} | {"K+1 basis"}
    parts = {
        name: [type(part).__name__ for part in m.assembler.refinement.refinements]
        for name, m in rows.items()
        if m.assembler.refinement is not None
    }
    diffusion, convolutions = "BoundaryDiffusion", "ConvRefinement"
    assert parts == {
        "isotropic": [diffusion],
        "gate, unsupervised": [diffusion],
        "gate": [diffusion],
        "gate, true boundary": [diffusion],
        "convolutions": [convolutions],
        "gate + convolutions, unsupervised": [diffusion, convolutions],
        "gate + convolutions": [diffusion, convolutions],
        "basis and gate, unsupervised": [diffusion],
        "basis and gate": [diffusion],
        "basis and gate + convolutions": [diffusion, convolutions],
    }


def test_a_gate_and_its_control_begin_with_the_same_weights() -> None:
    rows = models()
    for row, control in (
        ("gate", "gate, unsupervised"),
        ("gate + convolutions", "gate + convolutions, unsupervised"),
        ("basis and gate", "basis and gate, unsupervised"),
        ("HBB", "K+1 basis"),
    ):
        one, other = rows[row].state_dict(), rows[control].state_dict()
        assert one.keys() == other.keys()
        assert all(one[name].equal(other[name]) for name in one)


def test_the_sweeps_share_their_runs_with_the_table() -> None:
    profile = load_profile("beyond")
    table = load_table("beyond").run_specs(profile, (0,))
    schedule = load_table("beyond-schedule").run_specs(profile, (0,))
    steps = load_table("beyond-steps").run_specs(profile, (0,))
    short = [row for row in schedule if not row.endswith("3×")]
    assert len(schedule) == 2 * len(short)
    for row in short:
        assert schedule[row] == table[row]
        assert schedule[f"{row}, 3×"][0].schedule.iterations == 3 * 800
    assert steps["gate of 12 steps"] == table["gate"]
    assert steps["HBB"] == table["HBB"]


def test_sweeps_vary_what_they_are_named_for() -> None:
    for row, model in models("beyond-steps").items():
        if row.startswith("gate of"):
            (gate,) = model.assembler.refinement.refinements
            assert isinstance(gate, BoundaryDiffusion)
            assert gate.steps == int(row.split()[2])
        if "R = " in row:
            assert model.assembler.roi_size == int(row.rpartition(" ")[2])
