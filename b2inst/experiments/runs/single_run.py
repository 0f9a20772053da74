"""One training by a profile, apart from any table."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import JsonValue

from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.early_look import looked_at
from b2inst.experiments.runs.store import Run, RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData, DataSpec
from b2inst.experiments.specs.profile import Profile, load_profile
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace


def single_run(
    model: str,
    plan: Profile,
    *,
    options: dict[str, JsonValue] | None = None,
    seed: int = 0,
    start: Path | None = None,
    iterations: int | None = None,
    learning_rate: float | None = None,
    image_size: int | None = None,
    eval_every: int | None = None,
) -> RunSpec:
    """The run of a model by a profile.

    Args:
        model: name in the catalog.
        plan: its data prepared (``datasets.prepare``).
        options: of the model's builder; they win over the profile's.
        start: weights to begin with (default: the profile's): of a model, or detectron2's of a
            backbone. Options that belong to them (attention_size, msra, …) are the file's, unless
            ``options`` says otherwise.
        iterations: how long to train; the schedule is squeezed or stretched to it.
        learning_rate: the largest of the schedule.
        image_size: see ``RunSpec.with_image_size``.
        eval_every: iterations between early looks (default: the profile's).

    Raises:
        SpecError, WeightsError: no such weights file, or one that cannot be read.
    """
    plan = plan if start is None else plan.with_start(start)
    spec = plan.run_of(model, options or {}, seed)
    schedule = spec.schedule
    if iterations is not None:
        schedule = schedule.of_length(iterations)
    if learning_rate is not None:
        schedule = schedule.model_copy(update={"learning_rate": learning_rate})
    if eval_every is not None:
        schedule = schedule.model_copy(update={"eval_every": eval_every})
    spec = spec.model_copy(update={"schedule": schedule})
    return spec if image_size is None else spec.with_image_size(image_size)


def named(spec: RunSpec, plan: Profile, workspace: Workspace, name: str | None) -> RunSpec:
    """The run with the name of its folder.

    Args:
        name: as the user says. By default a run that a table has made already keeps its folder;
            another is called by its model, its data and its seed, and by its hash as well where
            that name is taken.

    Raises:
        RunError: the folder of this name holds a run of other settings.
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
    """What a training is about to do: model, data, size of images, schedule, folder."""
    lines = []
    for split in dict.fromkeys(("train", plan.data.report_split)):
        index = load_split(plan.data, split, workspace.data)
        crowds = sum(annotation.crowd for annotation in index.all_annotations())
        instances = sum(map(len, index.annotations.values())) - crowds
        lines.append(
            f"{plan.data.split_label(split)}: {len(index.images)} images, {instances} instances"
            + (f" and {crowds} crowd regions" if crowds else "")
        )
    names = index.class_names
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    sides = spec.augmentation.shorter
    size = (
        f"crops of {spec.augmentation.crop} pixels"
        if spec.augmentation.crop
        else f"shorter side {min(sides)} to {max(sides)} pixels"
        if len(set(sides)) > 1
        else f"shorter side {sides[0]} pixels"
    )
    folder = workspace.shown(open_run(workspace.runs, spec).folder)
    text = (
        f"{spec.model}, {len(names)} classes ({shown}), to {folder}\n{'; '.join(lines)}\n"
        f"{spec.schedule}; {size}"
    )
    if spec.schedule.eval_every:
        index = load_split(plan.data, "val", workspace.data)
        text += (
            f"\nevaluation every {spec.schedule.eval_every} iterations on "
            f"{len(looked_at(index))} of {len(index)} images of {plan.data.split_label('val')}"
        )
    if spec.schedule.iterations < plan.schedule.iterations / 10:
        text += (
            f"\nwarning: {spec.schedule.iterations} iterations are less than a tenth of the "
            f"profile's {plan.schedule.iterations}; do not expect a usable model"
        )
    return text


def full_model(profile: str, workspace: Workspace) -> Path | None:
    """Weights of Table 1's complete B2Inst (seed 0) of a profile; None where it is not trained."""
    plan = load_profile(profile, workspace=workspace)
    if isinstance(plan.data, CocoData):
        plan = plan.model_copy(update={"data": plan.data.identified()})
    (spec,) = load_table("table1", workspace=workspace).run_specs(plan, (0,))["HBB+BS+MS"]
    run = open_run(workspace.runs, spec)
    return run.model_path if run.status is RunStatus.TRAINED else None


def data_name(data: DataSpec) -> str:
    if isinstance(data, CocoData) and data.root is not None:
        return data.root.resolve().name
    return data.name
