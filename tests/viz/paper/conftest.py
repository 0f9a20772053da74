from __future__ import annotations

import pytest

from b2inst.experiments import Resources, Workspace, load_profile, load_table, run
from b2inst.experiments.runs.datasets import prepare
from b2inst.viz.paper import TrainedModels


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> TrainedModels:
    """BlendMask and B2Inst of Table 1, really run in the smoke profile; nothing of Table 3."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("B2INST_COCO_TINY", raising=False)
        plan = load_profile("smoke", workspace=workspace)
    schedule = plan.schedule.model_copy(update={"iterations": 2})
    data = prepare(plan.data, workspace.data)
    plan = plan.model_copy(update={"data": data, "schedule": schedule})
    rows = load_table("table1", workspace=workspace).rows
    for row in (rows[0], rows[-1]):
        assert row.model is not None
        spec = plan.run_spec(row.model, row.options, seed=0)
        run(spec, workspace, machine=Resources(threads=1, device="cpu"), progress=False)
    return TrainedModels(plan, workspace, seeds=(0, 1))
