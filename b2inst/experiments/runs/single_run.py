"""One training by a profile, apart from any table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.measuring import looked_at
from b2inst.experiments.runs.store import Run, RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData, DataSpec
from b2inst.experiments.specs.profile import Options, Profile, load_profile
from b2inst.experiments.specs.run_spec import RunSpec, StartFile
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace


def single_run(
    model: str,
    plan: Profile,
    *,
    options: Options | None = None,
    seed: int = 0,
    start: Path | None = None,
    iterations: int | None = None,
    learning_rate: float | None = None,
    image_size: int | None = None,
    eval_every: int | None = None,
) -> RunSpec:
    """Describe the run of a model by a profile.

    Args:
        model: Name in the catalog.
        plan: The profile; its data are prepared (``datasets.prepare``).
        options: Of the model's builder; they override the profile's.
        start: Weights to begin with (default: the profile's): of a model, or detectron2's of a
            backbone. Options that belong to them (attention_size, msra, …) are the file's, unless
            ``options`` says otherwise.
        iterations: Length of the training; the schedule is scaled to it.
        learning_rate: Largest learning rate of the schedule.
        image_size: See ``RunSpec.with_image_size``.
        eval_every: Iterations between early looks (default: the profile's).

    Raises:
        SpecError: There is no such weights file.
        WeightsError: The weights file cannot be read.
    """
    if start is not None:
        plan = plan.model_copy(update={"start": StartFile.of(start)})
    spec = plan.run_of(model, options or {}, seed)
    schedule = spec.schedule if iterations is None else spec.schedule.of_length(iterations)
    asked: dict[str, Any] = {"learning_rate": learning_rate, "eval_every": eval_every}
    schedule = schedule.model_copy(update={k: v for k, v in asked.items() if v is not None})
    spec = spec.model_copy(update={"schedule": schedule})
    return spec if image_size is None else spec.with_image_size(image_size)


def named(spec: RunSpec, plan: Profile, workspace: Workspace, name: str | None) -> RunSpec:
    """Return the run with the name of its folder.

    Args:
        name: As the user says. By default, a run that a table has made keeps its folder; another
            is named by its model, data and seed, and also by its hash if that name is taken.

    Raises:
        RunError: The folder of this name holds a run of other settings.
    """
    if name is None:
        if open_run(workspace.runs, spec).status is not RunStatus.NEW:
            return spec
        own = isinstance(plan.data, CocoData)
        words = re.findall(r"[A-Za-z0-9._]+", data_name(plan.data) if own else plan.name)
        name = "-".join([spec.model, *words, f"seed{spec.seed}"])
        taken = Run(workspace.runs / name)
        if taken.spec_path.is_file() and taken.spec().hash != spec.hash:
            name += f"-{spec.hash[:6]}"
    spec = RunSpec.model_validate({**spec.model_dump(), "name": name})
    open_run(workspace.runs, spec)
    return spec


def describe(spec: RunSpec, plan: Profile, workspace: Workspace) -> str:
    """Describe a training before it begins: model, data, size of images, schedule, folder."""
    sizes = []
    for split in dict.fromkeys(("train", plan.data.report_split)):
        index = load_split(plan.data, split, workspace.data)
        crowds = sum(annotation.crowd for annotation in index.all_annotations())
        instances = sum(map(len, index.annotations.values())) - crowds
        sizes.append(
            f"{plan.data.split_label(split)}: {len(index.images)} images, {instances} instances"
            + (f" and {crowds} crowd regions" if crowds else "")
        )
    names = index.class_names
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    sides = sorted({*spec.augmentation.shorter})
    sides = [sides[0], sides[-1]] if len(sides) > 1 else sides
    size = f"shorter side {' to '.join(map(str, sides))} pixels"
    if spec.augmentation.crop:
        size = f"crops of {spec.augmentation.crop} pixels"
    folder = workspace.shown(open_run(workspace.runs, spec).folder)
    lines = [f"{spec.model}, {len(names)} classes ({shown}), to {folder}", "; ".join(sizes)]
    lines.append(f"{spec.schedule}; {size}")
    if every := spec.schedule.eval_every:
        index = load_split(plan.data, "val", workspace.data)
        lines.append(
            f"evaluation every {every} iterations on {len(looked_at(index))} of {len(index)} "
            f"images of {plan.data.split_label('val')}"
        )
    if spec.schedule.iterations < plan.schedule.iterations / 10:
        lines.append(
            f"warning: {spec.schedule.iterations} iterations are less than a tenth of the "
            f"profile's {plan.schedule.iterations}; do not expect a usable model"
        )
    return "\n".join(lines)


def full_model(profile: str, workspace: Workspace) -> Path | None:
    """Path of the weights of Table 1's complete B2Inst (seed 0), if a profile has trained it."""
    plan = load_profile(profile, workspace=workspace)
    if isinstance(plan.data, CocoData):
        plan = plan.model_copy(update={"data": plan.data.identified()})
    (spec,) = load_table("table1", workspace=workspace).run_specs(plan, (0,))["HBB+BS+MS"]
    run = open_run(workspace.runs, spec)
    return run.model_path if run.status is RunStatus.TRAINED else None


def data_name(data: DataSpec) -> str:
    """Name of the data's folder."""
    if isinstance(data, CocoData) and data.root is not None:
        return data.root.resolve().name
    return data.name
