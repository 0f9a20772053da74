"""One training by a profile, apart from any table."""

from __future__ import annotations

import re
from pathlib import Path

from b2inst.data.wording import counted, shortened
from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.measuring import early_subset
from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData, DataSpec, SplitName
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.profile import Options, Profile, load_profile
from b2inst.experiments.specs.run_spec import RunSpec, StartFile
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.specs.yaml_spec import parse_spec
from b2inst.training import Schedule


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
        options: Of the model's builder; they override the profile's, and those of ``start``.
        seed: Random seed.
        start: Weights to begin with (default: the profile's); see ``Profile.run_of``.
        iterations: Length of the training; the schedule is scaled to it.
        learning_rate: Largest learning rate of the schedule.
        image_size: See ``RunSpec.with_image_size``.
        eval_every: Iterations between early looks (default: the profile's).
    """
    if start is not None:
        plan = plan.model_copy(update={"start": StartFile.of(start)})
    spec = plan.run_of(model, options or {}, seed)
    schedule = spec.schedule if iterations is None else spec.schedule.of_length(iterations)
    given = {"learning_rate": learning_rate, "eval_every": eval_every}
    changes = {name: value for name, value in given.items() if value is not None}
    schedule = parse_spec(Schedule, schedule.model_dump() | changes, source="schedule")
    spec = spec.model_copy(update={"schedule": schedule})
    return spec if image_size is None else spec.with_image_size(image_size)


def named(spec: RunSpec, plan: Profile, workspace: Workspace, name: str | None) -> RunSpec:
    """Return the run with the name of its folder; a RunError if that holds another run.

    Without a name, a run that a table has made keeps its folder; another is named by its model,
    data and seed, and also by its hash if that name is taken.
    """
    if name is None:
        if open_run(workspace.runs, spec).status is not RunStatus.NEW:
            return spec
        own = isinstance(plan.data, CocoData)
        words = re.findall(r"[A-Za-z0-9._]+", data_name(plan.data) if own else plan.name)
        name = "-".join([spec.model, *words, f"seed{spec.seed}"])
        try:
            return named(spec, plan, workspace, name)
        except RunError:
            name += f"-{spec.hash[:6]}"
    spec = parse_spec(RunSpec, {**spec.model_dump(), "name": name}, source="run")
    open_run(workspace.runs, spec)
    return spec


def describe(spec: RunSpec, plan: Profile, workspace: Workspace) -> str:
    """Describe a training before it begins: model, folder, data, schedule and size of images."""
    data, schedule, every = plan.data, spec.schedule, spec.schedule.eval_every
    crop, sides = spec.augmentation.crop, ", ".join(map(str, spec.augmentation.shorter))
    size = f"crops of {crop}" if crop else f"shorter side {sides}"
    splits: tuple[SplitName, ...] = ("train", data.report_split, "val")
    used = dict.fromkeys(splits if every else splits[:2])
    parts = {split: load_split(data, split, workspace.data) for split in used}
    names, folder = parts["train"].class_names, open_run(workspace.runs, spec).folder
    lines = [
        f"{spec.model}, {counted(len(names), 'class', 'classes')} ({shortened(names)}), to "
        f"{workspace.shown(folder)}",
        "; ".join(
            f"{data.split_label(split)}: {counted(len(part), 'image')}, "
            f"{counted(sum(part.class_counts().values()), 'instance')}"
            for split, part in parts.items()
        ),
        f"{schedule}; {size} pixels",
    ]
    if every:
        lines.append(
            f"evaluation every {counted(every, 'iteration')} on {len(early_subset(parts['val']))} "
            f"of {counted(len(parts['val']), 'image')} of {data.split_label('val')}"
        )
    if schedule.iterations < plan.schedule.iterations / 10:
        lines.append(
            f"warning: {counted(schedule.iterations, 'iteration')}, less than a tenth of the "
            f"profile's {plan.schedule.iterations}; do not expect a usable model"
        )
    return "\n".join(lines)


def full_model(profile: str, workspace: Workspace) -> Path | None:
    """Return the weights of Table 1's complete B2Inst (seed 0), if a profile has trained it."""
    plan = load_profile(profile, workspace=workspace)
    if isinstance(plan.data, CocoData):
        plan = plan.model_copy(update={"data": plan.data.identified()})
    (spec,) = load_table("table1", workspace=workspace).run_specs(plan, (0,))["HBB+BS+MS"]
    run = open_run(workspace.runs, spec)
    return run.model_path if run.status is RunStatus.TRAINED else None


def data_name(data: DataSpec) -> str:
    """Return the name of the data's folder."""
    if isinstance(data, CocoData) and data.root is not None:
        return data.root.resolve().name
    return data.name
