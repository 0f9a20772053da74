"""One training by a profile, apart from any table."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from b2inst.experiments.data_spec import CocoData
from b2inst.experiments.profile import Profile, load_profile
from b2inst.experiments.run_spec import RunSpec
from b2inst.experiments.store import RunStatus, open_run
from b2inst.experiments.table_spec import load_table
from b2inst.experiments.workspace import Workspace


def single_run(
    model: str,
    plan: Profile,
    *,
    options: dict[str, JsonValue] | None = None,
    seed: int = 0,
    start: Path | None = None,
) -> RunSpec:
    """The run of a model by a profile.

    Args:
        model: name in the catalog.
        plan: its data prepared (``datasets.prepare``).
        options: of the model's builder; they win over the profile's.
        start: weights to begin with (default: the profile's): of a model, or detectron2's of a
            backbone. Options that belong to them (attention_size, msra, …) are the file's, unless
            ``options`` says otherwise.

    Raises:
        SpecError, WeightsError: no such weights file, or one that cannot be read.
    """
    plan = plan if start is None else plan.with_start(start)
    return plan.run_of(model, options or {}, seed)


def full_model(profile: str, workspace: Workspace) -> Path | None:
    """Weights of Table 1's complete B2Inst (seed 0) of a profile; None where it is not trained."""
    plan = load_profile(profile, workspace=workspace)
    if isinstance(plan.data, CocoData):
        plan = plan.model_copy(update={"data": plan.data.identified()})
    (spec,) = load_table("table1", workspace=workspace).run_specs(plan, (0,))["HBB+BS+MS"]
    run = open_run(workspace.runs, spec)
    return run.model_path if run.status is RunStatus.TRAINED else None
