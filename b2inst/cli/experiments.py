"""``b2inst table`` and ``b2inst train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2inst.cli.metrics import metrics_text
from b2inst.cli.options import (
    BatchSizeOption,
    CrowdsAsInstancesOption,
    DataOption,
    DeviceOption,
    DevicesOption,
    LauncherOption,
    MachinesOption,
    ProfileOption,
    RecomputeOption,
    SkipBadOption,
    SlurmOption,
    Split,
    StartOption,
    TrainSplitOption,
    ValFractionOption,
    ValSplitOption,
    coco_data,
    parse_options,
    parse_seeds,
    parse_slurm,
    profile_name,
)
from b2inst.training.loggers import LoggerName

if TYPE_CHECKING:
    from b2inst.experiments import TableResult, Workspace


def table(
    name: Annotated[str, typer.Argument(help="Table, such as table1, or path of its YAML file.")],
    profile: ProfileOption = "tiny",
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Such as 0,1,2 (default: the profile's).")
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", help="Train this row only; may be given several times."),
    ] = None,
    data: DataOption = None,
    train_split: TrainSplitOption = None,
    val_split: ValSplitOption = None,
    val_fraction: ValFractionOption = None,
    skip_bad: SkipBadOption = False,
    crowds_as_instances: CrowdsAsInstancesOption = False,
    start: StartOption = None,
    batch_size: BatchSizeOption = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Evaluate on this (default: as reported).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Runs at a time (default: the profile's).")
    ] = None,
    device: DeviceOption = None,
    devices: DevicesOption = None,
    recompute: RecomputeOption = False,
    machines: MachinesOption = None,
    launcher: LauncherOption = "local",
    slurm: SlurmOption = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Train anew the runs that other code has made.")
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Train nothing: render the stored table again.")
    ] = False,
    notebook: Annotated[
        bool, typer.Option("--notebook/--no-notebook", help="Also run the table's notebook.")
    ] = True,
) -> None:
    """Complete a table of the paper, and write it to results/local/.

    The published tables in results/ stay; both are shown. Rerun to resume.

    The table's notebook knows no --start: for it, name the file in a profile of your own
    (extends: finetune, start: FILE).
    """
    from b2inst.experiments import Workspace, load_profile, make_table, to_text
    from b2inst.experiments.tables.published import comparison_text

    workspace = Workspace.here()
    chosen = coco_data(
        data,
        train=train_split,
        val=val_split,
        skip_bad=skip_bad,
        crowds_as_instances=crowds_as_instances,
        val_fraction=val_fraction,
    )
    numbers = parse_seeds(seeds)
    profile = profile_name(profile, batch_size)
    plan = load_profile(profile, data=chosen, start=start, workspace=workspace)
    asked = {
        "jobs": jobs,
        "device": device,
        "devices": devices,
        "recompute": recompute,
        "machines": machines,
        "slurm": parse_slurm(slurm),
    }
    machine = plan.machine.model_copy(update={k: v for k, v in asked.items() if v})
    result = make_table(
        name,
        profile=profile,
        seeds=numbers,
        rows=row,
        data=chosen,
        start=start,
        split=split,
        workspace=workspace,
        machine=machine,
        launcher=launcher,
        train=not render,
        rerun=rerun,
    )
    typer.echo(to_text(result))
    if split is None and (comparison := comparison_text(result, workspace)):
        typer.echo(f"\n{comparison}\n")
    folder = workspace.results / result.profile
    folder /= result.table if split is None else f"{result.table}-{split}"
    typer.echo(f"{workspace.shown(folder)}: {result.table}.md, .csv, .tex, .json")

    # The notebook makes the table again by its parameters, which know no more than these.
    plain = not (
        render or row or split or train_split or val_split or val_fraction or skip_bad
        or crowds_as_instances or start
    )  # fmt: skip
    if notebook and plain:
        parameters = {
            "profile": profile,
            "seeds": ",".join(map(str, numbers or plan.seeds)),
            "data": str(data.resolve()) if data is not None else "",
        }
        _run_notebook(name, result, folder, parameters, workspace)


def _run_notebook(
    name: str, result: TableResult, folder: Path, parameters: dict[str, str], workspace: Workspace
) -> None:
    """Execute the notebook of a table, if it has one, beside the table's files."""
    from b2inst.experiments import execute
    from b2inst.experiments.specs.table_spec import load_table

    source = load_table(name, workspace=workspace).notebook
    if source is not None:
        _, page = execute(
            workspace.notebook(source),
            folder / f"{result.table}.ipynb",
            parameters,
            folder=workspace.root,
            inputs=repr(result.rows),
            progress=True,
        )
        typer.echo(f"{workspace.shown(page)}: the table with figures")


def publish(profile: ProfileOption = "tiny") -> None:
    """Move results/local/PROFILE to results/PROFILE, as published."""
    from b2inst.experiments import Workspace
    from b2inst.experiments.tables.published import publish as move

    workspace = Workspace.here()
    for path in move(profile, workspace):
        typer.echo(workspace.shown(path))


def train(
    model: Annotated[str, typer.Argument(help="Model, such as b2inst-blendmask-tiny.")],
    profile: ProfileOption = "tiny",
    data: DataOption = None,
    train_split: TrainSplitOption = None,
    val_split: ValSplitOption = None,
    val_fraction: ValFractionOption = None,
    skip_bad: SkipBadOption = False,
    crowds_as_instances: CrowdsAsInstancesOption = False,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations", min=1, help="Warm-up and steps follow (default: the profile's)."
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate (default: the profile's).")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=32, help="Shorter side in pixels; others follow."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Of the folder in runs/ (default: by model and data)."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="Model option as NAME=YAML, such as scoring=[iou]."),
    ] = None,
    start: StartOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = None,
    devices: DevicesOption = None,
    recompute: RecomputeOption = False,
    eval_every: Annotated[
        int | None,
        typer.Option(
            "--eval-every",
            min=1,
            help="Evaluate on the validation split every N iterations; keeps the best weights.",
        ),
    ] = None,
    logger: Annotated[
        LoggerName | None, typer.Option("--logger", help="Also log to one of these.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Short for --logger tensorboard.")
    ] = False,
) -> None:
    """Train a model by a profile, and evaluate it; rerun to resume.

    On several machines, torchrun --no-python starts this command on each of them.

    With --start, options that belong to the file's weights (attention_size, msra, …) are the
    file's, unless --option says otherwise.
    """
    # Before PyTorch is imported, whose threads else wait in a loop that takes others' cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from b2inst.experiments import Workspace, load_profile, open_run, run
    from b2inst.experiments.runs.datasets import prepare
    from b2inst.experiments.runs.launch import run_all
    from b2inst.experiments.runs.preflight import check_plan
    from b2inst.experiments.runs.single_run import describe, named, single_run
    from b2inst.inference import resolve_device
    from b2inst.ops.distributed import from_first
    from b2inst.training.devices import join
    from b2inst.training.loggers import check_logger
    from b2inst.viz.curves import training_curves
    from b2inst.viz.figure import save_figure
    from b2inst.weights.files import model_card

    if tensorboard:
        if logger not in (None, "tensorboard"):
            raise typer.BadParameter(f"--tensorboard and --logger {logger}: give one of them")
        logger = "tensorboard"
    if logger is not None:
        check_logger(logger)
    options = parse_options(option)
    workspace = Workspace.here()
    plan = load_profile(
        profile_name(profile, batch_size),
        data=coco_data(
            data,
            train=train_split,
            val=val_split,
            skip_bad=skip_bad,
            crowds_as_instances=crowds_as_instances,
            val_fraction=val_fraction,
        ),
        start=start,
        workspace=workspace,
    )
    asked = {
        "jobs": 1,
        "device": device,
        "devices": devices,
        "recompute": recompute,
        "logger": logger,
    }
    machine = plan.machine.model_copy(update={k: v for k, v in asked.items() if v})
    device_name = resolve_device(machine.device)
    machine = machine.settled()
    world = join(device=machine.device)
    data_here = from_first(lambda: prepare(plan.data, workspace.data))
    plan = plan.model_copy(update={"data": data_here})
    spec = single_run(
        model,
        plan,
        options=options,
        seed=seed,
        iterations=iterations,
        learning_rate=lr,
        image_size=image_size,
        eval_every=eval_every,
    )
    spec = named(spec, plan, workspace, name)
    split = plan.data.report_split
    check_plan([spec], workspace, split, machine)
    if world.rank == 0:
        threads = "1 CPU thread" if machine.threads == 1 else f"{machine.threads} CPU threads"
        typer.echo(f"{describe(spec, plan, workspace)}; device {device_name}, {threads}")
    if machine.devices > 1:
        run_all({f"{model} seed {seed}": spec}, workspace, split=split, machine=machine)
        done = open_run(workspace.runs, spec)
    else:
        done = run(spec, workspace, split=split, machine=machine)
    if world.rank > 0:
        return
    label = plan.data.split_label(split)
    typer.echo(metrics_text((done.metrics(label) or {})["metrics"]))
    curves = save_figure(training_curves({spec.model: [done.log()]}), done.folder / "curves.png")
    typer.echo(f"{workspace.shown(curves)}: the training curves")
    typer.echo(f"{workspace.shown(done.model_path)}: the weights")
    if spec.schedule.eval_every and done.best_path.is_file():
        best = model_card(done.best_path)
        typer.echo(
            f"{workspace.shown(done.best_path)}: the best weights, of iteration "
            f"{best['iteration']} (mask AP {best['AP']:.1f}, boundary AP {best['boundary_AP']:.1f})"
        )


def runs() -> None:
    """List the runs in runs/ with their model, data, state and mask AP."""
    from b2inst.experiments import Workspace
    from b2inst.experiments.tables.published import run_table

    typer.echo(run_table(Workspace.here()))
