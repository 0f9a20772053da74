"""The main job, end to end: from a table's name to its numbers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.launch import Launcher, run_all
from b2inst.experiments.runs.preflight import check_plan
from b2inst.experiments.runs.runner import (
    is_complete,
    is_stale,
    warn_of_stale,
)
from b2inst.experiments.runs.store import Run, RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.profile import Profile, load_profile
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import TableSpec, load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.build import build_table, save_runs
from b2inst.experiments.tables.exports import write_table
from b2inst.experiments.tables.published import expected_seconds, load_published
from b2inst.experiments.tables.speed import TableSpeed, table_speed
from b2inst.experiments.tables.table_result import TableResult
from b2inst.inference import resolve_device


def make_table(
    name: str,
    *,
    profile: str = "tiny",
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    data: CocoData | None = None,
    start: Path | None = None,
    split: SplitName | None = None,
    workspace: Workspace | None = None,
    machine: Resources | None = None,
    launcher: Launcher = "local",
    train: bool = True,
    rerun: bool = False,
    progress: bool = True,
) -> TableResult:
    """Run what is missing of a table, and write it to ``results/local/<profile>/<table>/``.

    Finished runs are read back: rerun an interrupted call to resume. The table shows all seeds
    and rows that have been run on this machine, those of earlier calls too. The published table
    in ``results/`` stays as it is.

    Args:
        name: a table ("table1") or the path of its YAML file.
        profile: a profile ("tiny") or the path of its YAML file.
        seeds: one run of each row for each (default: the profile's).
        rows: names of the rows to run (default: all).
        data: a COCO-format folder to use in place of the profile's data.
        start: weights that every run begins with (default: the profile's).
        split: evaluated on this one (default: the one that is reported on). Another one's table
            goes to ``<table>-<split>/``, so that tuning does not touch what is reported.
        machine: how to use the machine (default: as the profile says).
        launcher: "local", or "slurm" for the jobs of a cluster.
        train: False runs nothing: this machine's table is rendered again, else the published one;
            without any, rows say "not run".
        rerun: train anew the runs that were made by other code; the old ones are kept aside.

    Raises:
        ExperimentError, DataError: the plan cannot be carried out; raised before any training.
        RunError: a run failed; the others were completed, and the table shows them.
        KeyboardInterrupt: stopped; what has been done is kept.
    """
    workspace = workspace or Workspace.here()
    plan = load_profile(profile, data=data, start=start, workspace=workspace)
    table = load_table(name, workspace=workspace).with_columns(plan.columns)
    part = split or plan.data.report_split
    folder = table.name if part == plan.data.report_split else f"{table.name}-{part}"
    target = workspace.results / plan.name / folder
    if not train:
        stored = target / f"{table.name}.json"
        result = (
            TableResult.load(stored)
            if stored.is_file()
            else load_published(plan.name, table.name, workspace)
            or build_table(table, plan, {}, workspace, split=part)
        )
        write_table(result, target)
        return result

    plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
    asked = tuple(plan.seeds if seeds is None else seeds)
    specs = table.run_specs(plan, (*asked, *_earlier_seeds(table, plan, target, asked)))

    def finish(speed: TableSpeed | None) -> TableResult:
        built = build_table(table, plan, specs, workspace, split=part, speed=speed)
        return _write(built, workspace, target)

    runs = _runs(specs, workspace)
    wanted = {
        spec.hash
        for row in _chosen(rows, table)
        for spec in specs.get(row, ())
        if spec.seed in asked
    }
    if rerun:
        for spec, run in runs.values():
            if spec.hash in wanted and is_stale(run):
                run.set_aside()
    warn_of_stale({label: run for label, (_, run) in runs.items()})
    missing = {  # the longest first: none is left alone in the end
        label: spec
        for label, (spec, run) in sorted(
            runs.items(), key=lambda item: -item[1][0].schedule.iterations
        )
        # Also those of earlier calls that today's code has not measured, which takes little.
        if (spec.hash in wanted or run.status is RunStatus.TRAINED)
        and not is_complete(run, spec, part)
    }
    machine = machine or plan.machine
    if progress and missing:
        published = load_published(plan.name, table.name, workspace)
        text = _announcement(table.name, plan.name, runs, missing, machine.jobs, published)
        tqdm.write(text, file=sys.stderr)
    if missing:
        check_plan(missing.values(), workspace, part, machine)
    speed = None
    try:
        if missing:
            run_all(
                missing,
                workspace,
                split=part,
                machine=machine,
                launcher=launcher,
                complete={
                    label: spec
                    for label, (spec, _) in runs.items()
                    if spec.hash in wanted and label not in missing
                },
                progress=progress,
            )
        if table.costs and rows is None:  # all of them are timed together, or none
            speed = table_speed(
                {row: open_run(workspace.runs, of[0]) for row, of in specs.items()},
                table.bases,
                target / "speed.json",
                data=plan.data,
                split=part,
                workspace=workspace,
                device=resolve_device(machine.device),
                progress=progress,
            )
    except BaseException:
        if any(is_complete(run, spec, part) for spec, run in runs.values()):
            finish(None)
        raise
    return finish(speed)


def _earlier_seeds(
    table: TableSpec, plan: Profile, target: Path, asked: Sequence[int]
) -> Sequence[int]:
    """Other seeds of the table that this machine has; one of other data is set aside."""
    path = target / f"{table.name}.json"
    if not path.is_file():
        return ()
    provenance = TableResult.load(path).provenance
    if provenance.get("data") == plan.data.name:
        return [seed for seed in provenance["seeds"] if seed not in asked]
    kept = target.with_name(f"{target.name}-{provenance.get('data')}")
    target.rename(kept)
    warnings.warn(f"the table of other data that was here is now {kept}", stacklevel=3)
    return ()


def _announcement(
    table: str,
    profile: str,
    runs: Mapping[str, tuple[RunSpec, Run]],
    missing: Mapping[str, RunSpec],
    jobs: int,
    published: TableResult | None,
) -> str:
    """What will be run, what is there, and about how long it takes."""
    begun = sum(run.status is RunStatus.STARTED for _, run in runs.values())
    text = (
        f"{table}, profile {profile}: {len(runs)} runs, {len(runs) - len(missing)} complete, "
        f"{begun} begun"
    )
    seconds = expected_seconds((label.rpartition(" seed ")[0] for label in missing), published)
    if missing and seconds:
        minutes = seconds / 60 / min(jobs, len(missing))
        text += f"; about {max(minutes, 1):.0f} min, {jobs} at a time"
        assert published is not None
        text += f" (as the published runs took, on {published.provenance.get('cpu')})"
    return text


def _chosen(rows: Sequence[str] | None, table: TableSpec) -> Sequence[str]:
    known = [row.name for row in table.rows]
    if unknown := [row for row in rows or () if row not in known]:
        raise SpecError(f"{table.name} has no rows {unknown}; it has {known}")
    return known if rows is None else rows


def _runs(
    specs: Mapping[str, Sequence[RunSpec]], workspace: Workspace
) -> dict[str, tuple[RunSpec, Run]]:
    """Each run once, by the label that progress and errors name it by."""
    found: dict[str, tuple[RunSpec, Run]] = {}
    for row, row_specs in specs.items():
        for spec in row_specs:
            run = open_run(workspace.runs, spec)
            if run not in (other for _, other in found.values()):
                found[f"{row} seed {spec.seed}"] = (spec, run)
    return found


def _write(result: TableResult, workspace: Workspace, target: Path) -> TableResult:
    save_runs(result, workspace)
    write_table(result, target)
    return result
