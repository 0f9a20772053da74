"""``b2inst table``, ``train``, ``runs``, ``figures``, ``report`` and ``publish``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from b2inst import experiments
from b2inst.cli import options as opt
from b2inst.cli.evaluation import metrics_text
from b2inst.data.wording import counted
from b2inst.training.logs import LoggerName


@opt.with_groups
def table(
    name: Annotated[str, Argument(help="Table, such as table1, or path to its YAML file.")],
    data: opt.DataOptions,
    options: opt.RunOptions,
    seeds: Annotated[
        str | None, Option(help="Seeds, such as 0,1,2 (default: the profile's).")
    ] = None,
    row: Annotated[list[str] | None, Option(help="Row to run (default: all); repeatable.")] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, Option(help="Split (default: the profile's).")
    ] = None,
    jobs: Annotated[int | None, Option(min=1, help="Number of runs at a time.")] = None,
    machines: Annotated[int | None, Option(min=1, help="Machines per run, with Slurm.")] = None,
    launcher: Annotated[Literal["local", "slurm"], Option(help="Where to start runs.")] = "local",
    slurm: Annotated[list[str] | None, Option(help="sbatch options: partition=gpu,mem=9G.")] = None,
    rerun: Annotated[bool, Option("--rerun", help="Retrain runs of older code.")] = False,
    published: Annotated[
        bool, Option("--published", help="Use published runs instead of repeating them.")
    ] = False,
    render: Annotated[bool, Option("--render", help="Run nothing; show existing results.")] = False,
    notebook: Annotated[
        bool, Option("--notebook/--no-notebook", help="Execute the table's notebook.")
    ] = True,
) -> None:
    """Reproduce a table of the paper; rerun to resume.

    Trains and evaluates what is missing, and writes the table to results/local/PROFILE/. Without
    --data, uses the data of the profile. Published tables in results/ are never changed. --render
    shows them if nothing has been run here, and --published uses their runs for the rows and seeds
    that have not been run here. With --published, --start, --row or options for splits, the table's
    notebook is not executed.
    """
    if render and (seeds or row or rerun or published):
        raise typer.BadParameter(
            "--render runs nothing: leave out --seeds, --row, --rerun and --published"
        )
    workspace = experiments.Workspace.here()
    chosen = opt.coco_data(**vars(data))
    numbers = None if seeds is None else opt.parse_seeds(seeds)
    use = {"jobs": jobs, "machines": machines, "slurm": opt.parse_slurm(slurm)}
    plan = options.load(chosen, workspace, **use)
    source = experiments.load_table(name, workspace=workspace).notebook
    if source and notebook and not workspace.notebook(source).is_file():
        raise experiments.SpecError(
            f"{name}: notebook {source} is not in {workspace.root / 'notebooks'}; correct it, or "
            "add --no-notebook"
        )
    local = launcher == "local" and not render
    with _scenes_drawn(plan, workspace) if local else nullcontext():
        from b2inst.experiments import make_table  # imports PyTorch
    result = make_table(
        name,
        profile=options.profile_name,
        seeds=numbers,
        rows=row,
        data=chosen,
        start=options.start,
        split=split,
        workspace=workspace,
        machine=plan.machine,
        launcher=launcher,
        train=not render,
        rerun=rerun,
        published=published,
    )
    _show_table(result, workspace, rendered=render)
    # The notebook makes the table again; it has no parameters but these.
    plain = data == opt.DataOptions(data=data.data)
    if source and notebook and plain and not any((published, render, row, split, options.start)):
        named, own = options.profile_name, options.profile.endswith((".yaml", ".yml"))
        parameters = {
            "profile": os.path.abspath(named) if own else named,
            "seeds": ",".join(map(str, numbers or plan.seeds)),
            "data": str(data.data.resolve()) if data.data is not None else "",
        }
        _run_notebook(workspace.notebook(source), result, parameters, workspace)


@contextmanager
def _scenes_drawn(plan: experiments.Profile, workspace: experiments.Workspace) -> Iterator[None]:
    """Write the scenes of a first table in a process beside what is done within.

    The process that runs are forked from is started, too.
    """
    import multiprocessing

    from b2inst.experiments.runs.children import start_fork_server

    data = plan.data
    if not isinstance(data, experiments.ScenesData) or (workspace.data / data.name).is_dir():
        yield
        return
    start_fork_server(plan.machine)
    process = multiprocessing.get_context("spawn").Process(
        target=_draw, args=(data, workspace.data)
    )
    process.start()
    try:
        yield
    finally:
        process.join()


def _draw(data: experiments.ScenesData, folder: Path) -> None:
    from b2inst.experiments.runs.datasets import prepare

    with suppress(Exception, KeyboardInterrupt):  # make_table fails in the same way, and says it
        prepare(data, folder)


@opt.with_groups
def train(
    model: Annotated[str, Argument(help="Model, such as b2inst-blendmask-tiny.")],
    data: opt.DataOptions,
    options: opt.RunOptions,
    seed: Annotated[int, Option(min=0, help="Random seed.")] = 0,
    iterations: Annotated[
        int | None, Option(min=1, help="Iterations; scales the schedule.")
    ] = None,
    lr: Annotated[float | None, Option(help="Learning rate (default: the profile's).")] = None,
    image_size: Annotated[int | None, Option(min=32, help="Shorter side of images.")] = None,
    name: Annotated[str | None, Option(help="Folder in runs/ (default: model and data).")] = None,
    option: opt.ModelOptions = None,
    eval_every: Annotated[int | None, Option(min=1, help="Evaluate every N iterations.")] = None,
    logger: Annotated[LoggerName | None, Option(help="Logger in addition to log.jsonl.")] = None,
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="Same as --logger tensorboard.")
    ] = False,
) -> None:
    """Train a model and evaluate it; rerun to resume.

    Without --data, uses the data of the profile. With --start, options that belong to the weights
    (attention_size, msra, …) are read from their file unless --option sets them.

    To train on several machines, start this command on each of them with torchrun --no-python.
    """
    # Before PyTorch is imported, whose threads else wait in a loop that takes others' cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from b2inst.experiments.runs.datasets import prepare
    from b2inst.experiments.runs.single_run import named, single_run
    from b2inst.inference import resolve_device
    from b2inst.ops.distributed import from_rank_zero
    from b2inst.training.devices import join
    from b2inst.training.logs import check_logger

    if tensorboard and logger not in (None, "tensorboard"):
        raise typer.BadParameter(f"--tensorboard and --logger {logger}: give one of them")
    logger = "tensorboard" if tensorboard else logger
    if logger is not None:
        check_logger(logger)
    model_options = opt.parse_options(option)
    workspace = experiments.Workspace.here()
    plan = options.load(opt.coco_data(**vars(data)), workspace, jobs=1, logger=logger)
    resolve_device(plan.machine.device)  # an error now, not after data are prepared
    join(device=plan.machine.device)
    data_here = from_rank_zero(lambda: prepare(plan.data, workspace.data))
    plan = plan.model_copy(update={"data": data_here})
    spec = single_run(
        model,
        plan,
        options=model_options,
        seed=seed,
        iterations=iterations,
        learning_rate=lr,
        image_size=image_size,
        eval_every=eval_every,
    )
    _complete(named(spec, plan, workspace, name), plan, workspace)


def runs() -> None:
    """List the runs in runs/, newest first, with status and mask AP."""
    from b2inst.experiments.tables.published import run_table

    typer.echo(run_table(experiments.Workspace.here()))


@opt.with_groups
def figures(
    data: opt.DataOptions,
    profile: opt.ProfileName = "tiny",
    seeds: Annotated[str, Option(help="Seeds; the first one that was run is drawn.")] = "0",
) -> None:
    """Draw the paper's figures as PDF and PNG.

    Uses the trained models of the tables. Figures whose models are missing are listed, with the
    table to run first. Give the same data options as for the tables.
    """
    from b2inst.viz.paper import TrainedModels, missing_models, save_all

    workspace = experiments.Workspace.here()
    models = TrainedModels.load(
        profile,
        seeds=opt.parse_seeds(seeds),
        data=opt.coco_data(**vars(data)),
        workspace=workspace,
    )
    for why, names in missing_models(models).items():
        typer.echo(f"left out: {', '.join(names)}; {why}")
    for saved in save_all(models):
        if saved.path is not None:
            typer.echo(f"{workspace.shown(saved.path)} and .pdf")


def report(
    profile: opt.ProfileName = "tiny",
    published: Annotated[bool, Option("--published", help="Use the published results.")] = False,
) -> None:
    """Write all results of a profile to one page."""
    from b2inst.viz.report import make_report

    workspace = experiments.Workspace.here()
    page = make_report(profile, workspace, published=published)
    typer.echo(f"{workspace.shown(page)}: open it in a browser")


def publish(profile: opt.ProfileName = "tiny") -> None:
    """Move results/local/PROFILE to results/PROFILE; for maintainers."""
    from b2inst.experiments.specs.profile import profile_name
    from b2inst.experiments.tables.published import publish as move

    workspace = experiments.Workspace.here()
    for path in move(profile_name(profile), workspace):
        typer.echo(workspace.shown(path))


def _show_table(
    result: experiments.TableResult, workspace: experiments.Workspace, *, rendered: bool
) -> None:
    """Print a table beside the published one, and where its files are."""
    from b2inst.experiments.tables.published import comparison_text

    typer.echo(f"{experiments.to_text(result)}\n{_legend(result)}")
    folder = result.folder(workspace)
    if rendered and not (folder / f"{result.table}.md").is_file():
        cells = "the numbers are the published ones" if result.seeds else "cells are the paper's"
        typer.echo(f"Nothing has been run here; {cells}.")
        return
    if result.split is None and result.seeds:
        typer.echo(f"\n{comparison_text(result, workspace)}\n")
    typer.echo(f"{workspace.shown(folder)}: {result.table}.md, .csv, .tex, .json")


def _legend(result: experiments.TableResult) -> str:
    from b2inst.experiments.tables.rendering import NOISE

    text = [
        f"(n): number of seeds. Δ: difference from the base row, with its 95 % interval. {NOISE}: "
        "the interval contains zero, so the difference is not statistically significant."
    ]
    if result.seeds == 1:
        text += ["With one seed, intervals do not cover their variation; add --seeds 0,1,2."]
    return " ".join(filter(None, (*text, result.provenance.get("note"))))


def _run_notebook(
    source: Path,
    result: experiments.TableResult,
    parameters: dict[str, str],
    workspace: experiments.Workspace,
) -> None:
    """Execute the notebook of a table, and write it beside the table's files."""
    _, page = experiments.execute(
        source,
        result.folder(workspace) / f"{result.table}.ipynb",
        parameters,
        folder=workspace.root,
        inputs=repr(result.rows),
        progress=True,
    )
    typer.echo(f"{workspace.shown(page)}: the table with figures")


def _complete(
    spec: experiments.RunSpec, plan: experiments.Profile, workspace: experiments.Workspace
) -> None:
    """Train and evaluate what is missing of a run; the process of rank 0 prints."""
    from b2inst.experiments.runs.launch import run_all
    from b2inst.experiments.runs.preflight import check_plan
    from b2inst.experiments.runs.runner import is_complete
    from b2inst.experiments.runs.single_run import describe
    from b2inst.inference import resolve_device
    from b2inst.ops.distributed import from_rank_zero
    from b2inst.training.devices import World

    first, machine = World.from_environment().rank == 0, plan.machine.settled()
    split, run = plan.data.report_split, experiments.open_run(workspace.runs, spec)
    label = plan.data.split_label(split)
    if from_rank_zero(lambda: is_complete(run, spec, split)):
        if first:
            ap = (run.metrics(label) or {})["metrics"]["AP"]
            known = "" if ap is None else f", mask AP {ap:.1f}"
            typer.echo(f"{workspace.shown(run.folder)}: is complete{known}")
        return
    check_plan([spec], workspace, split, machine, progress=first)
    if first:
        typer.echo(describe(spec, plan, workspace))
        device, threads = resolve_device(machine.device), machine.threads or 1
        typer.echo(f"device {device}, {counted(threads, 'CPU thread')}")
    if machine.devices > 1:
        run_all({f"{spec.model} seed {spec.seed}": spec}, workspace, split=split, machine=machine)
    else:
        experiments.run(spec, workspace, split=split, machine=machine)
    if first:
        _show_run(run, label, workspace)


def _show_run(run: experiments.Run, split: str, workspace: experiments.Workspace) -> None:
    from b2inst.viz.charts import training_curves
    from b2inst.viz.figure import save_figure
    from b2inst.weights.files import model_card

    typer.echo(metrics_text((run.metrics(split) or {})["metrics"]))
    spec = run.spec()
    curves = save_figure(training_curves({spec.model: [run.log()]}), run.folder / "curves.png")
    typer.echo(f"{workspace.shown(curves)}: training curves")
    typer.echo(f"{workspace.shown(run.model_path)}: weights")
    if spec.schedule.eval_every and run.best_path.is_file():
        best = model_card(run.best_path)
        typer.echo(
            f"{workspace.shown(run.best_path)}: best weights, of iteration {best['iteration']} "
            f"(mask AP {best['AP']:.1f}, boundary AP {best['boundary_AP']:.1f})"
        )
