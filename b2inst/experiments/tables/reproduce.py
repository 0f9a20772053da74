"""From the name of a table to its numbers."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from b2inst.data.wording import counted
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.launch import Launcher, last_iteration, run_all
from b2inst.experiments.runs.preflight import check_plan
from b2inst.experiments.runs.runner import is_complete, is_stale, warn_of_stale
from b2inst.experiments.runs.store import Run, RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.profile import Profile, load_profile
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import TableSpec, load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.build import build_table, save_runs
from b2inst.experiments.tables.published import load_published
from b2inst.experiments.tables.published_run import published_run
from b2inst.experiments.tables.rendering import write_table
from b2inst.experiments.tables.speed import TableSpeed, published_speed, table_speed
from b2inst.experiments.tables.table_result import TableResult, table_folder
from b2inst.inference import resolve_device

#: Runs with their specs, by the label that progress and errors name them by.
Runs = dict[str, tuple[RunSpec, Run]]


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
    published: bool = False,
) -> TableResult:
    """Run what is missing of a table, and write it to ``results/local/<profile>/<table>/``.

    Finished runs are read back: rerun an interrupted call to resume. The table shows all seeds
    and rows that have been run on this machine, those of earlier calls too.

    Args:
        name: A table ("table1") or the path of its YAML file.
        profile: A profile ("tiny") or the path of its YAML file.
        seeds: One run of each row for each (default: the profile's).
        rows: Names of the rows to run (default: all). Rows are timed together, once all have run.
        data: A COCO-format folder to use instead of the profile's data.
        start: Weights that every run begins with (default: the profile's).
        split: The split to evaluate on (default: the one that is reported on); the table of another
            one goes to ``<table>-<split>/``.
        workspace: Where all files are (default: the checkout of the current folder).
        machine: How to use the machine (default: as the profile says).
        launcher: "local" for processes of this machine, "slurm" for jobs of a cluster.
        train: False runs nothing and ignores ``seeds`` and ``rows``: this machine's table of these
            data is written again, else the published one returned; without any, rows say "not run".
        rerun: Train again the runs of other versions of the code; the old ones are kept aside.
        published: Take the metrics of published runs instead of repeating these. They come without
            resamples: intervals over images have the width that the published table gives them.

    Returns:
        The table as it was written, or a published one.

    Raises:
        SpecError, DataError: The plan cannot be carried out; raised before any training.
        RunError: A run failed; the others were completed, and the table shows them.
        KeyboardInterrupt: Stopped; what has been done is kept.
    """
    workspace = workspace or Workspace.here()
    plan = load_profile(profile, data=data, start=start, workspace=workspace)
    table = load_table(name, workspace=workspace).with_columns(plan.columns)
    split = split or plan.data.report_split
    other_split = None if split == plan.data.report_split else split
    target = table_folder(plan.name, table.name, other_split, workspace)
    stored = target / f"{table.name}.json"
    machine = machine or plan.machine
    if train or data is not None:
        plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
    if not train:
        of = None if data is None else plan.data.name
        return _shown(table, plan, stored, split, of, workspace)

    asked = tuple(plan.seeds if seeds is None else seeds)
    own = _own_table(stored, plan.data.name)
    earlier = TableResult.load(own).provenance["seeds"] if own else ()
    specs = table.run_specs(plan, tuple(sorted({*asked, *earlier})))
    if not specs:
        sizes = ", ".join(dict.fromkeys([plan.variant, *plan.variants]))
        raise SpecError(f"{name}: no row is run in profile {plan.name}, whose variants are {sizes}")
    runs = _runs(table.name, specs, workspace)
    records = {
        label: record
        for label, (spec, run) in runs.items()
        if published
        and not is_complete(run, spec, split)
        and (record := published_run(spec, plan.name, split, workspace)) is not None
        and not (rerun and is_stale(record))
    }
    warn_of_stale(records)
    runs = {label: found for label, found in runs.items() if label not in records}
    wanted = _wanted(table, rows, specs, runs, asked)
    for run in (runs[label][1] for label in wanted if rerun):
        if is_stale(run):
            run.set_aside()
    missing = _missing(runs, wanted, split)
    if missing:
        known = load_published(plan.name, table.name, workspace, data=plan.data.name)
        shown = {label: runs[label] for label in dict.fromkeys((*wanted, *missing))}
        text = _announcement(shown, missing, machine.jobs, known)
        tqdm.write(f"{table.name}, profile {plan.name}: {text}", file=sys.stderr)
        check_plan([*missing.values()], workspace, split, machine, progress=True)
    done = {label: runs[label][0] for label in wanted if label not in missing}

    def write(speed: TableSpeed | None = None) -> TableResult:
        taken = {record.hash: record for record in records.values()}
        result = build_table(
            table, plan, specs, workspace, split=split, speed=speed, published=taken
        )
        save_runs(result, workspace)
        _make_way(stored, plan.data.name)
        write_table(result, target)
        return result

    try:
        if missing:
            run_all(
                missing, workspace, split=split, machine=machine, launcher=launcher, complete=done
            )
        _make_way(stored, plan.data.name)
        speed = None
        if table.costs:
            speed = _speed(table, plan, specs, workspace, split, machine, target / "speed.json")
            if speed is None and published and other_split is None:
                theirs = workspace.published / plan.name / table.name / "speed.json"
                speed = published_speed(theirs, target / "speed.json", specs)
    except BaseException:
        if any(is_complete(run, spec, split) for spec, run in runs.values()):
            write()
        raise
    return write(speed)


def _speed(
    table: TableSpec,
    plan: Profile,
    specs: Mapping[str, Sequence[RunSpec]],
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
    file: Path,
) -> TableSpeed | None:
    """Time all rows together, or none; further seeds change nothing."""
    timed = {row: open_run(workspace.runs, of[0]) for row, of in specs.items()}
    if not all(is_complete(timed[row], of[0], split) for row, of in specs.items()):
        return None
    return table_speed(
        timed,
        table.bases,
        file,
        data=plan.data,
        split=split,
        workspace=workspace,
        device=resolve_device(machine.device),
        images=plan.timed_images,
    )


def _shown(
    table: TableSpec,
    plan: Profile,
    stored: Path,
    split: SplitName,
    data: str | None,
    workspace: Workspace,
) -> TableResult:
    """This machine's table of these data (None: of any), else the published or an empty one."""
    if own := _own_table(stored, data):
        result = TableResult.load(own)
        write_table(result, own.parent)
        return result
    found = None
    if split == plan.data.report_split:
        found = load_published(plan.name, table.name, workspace, data=data)
    return found or build_table(table, plan, {}, workspace, split=split)


def _wanted(
    table: TableSpec,
    rows: Sequence[str] | None,
    specs: Mapping[str, Sequence[RunSpec]],
    runs: Runs,
    seeds: Sequence[int],
) -> list[str]:
    """Labels of the runs of these rows and seeds; a SpecError if the table has no such row."""
    every = [row.name for row in table.rows]
    if unknown := [row for row in rows or () if row not in every]:
        raise SpecError(f"{table.name} has no rows {unknown}; it has {every}")
    asked = [spec for row in rows or every for spec in specs.get(row, ())]
    hashes = {spec.hash for spec in asked if spec.seed in seeds}
    return [label for label, (spec, _) in runs.items() if spec.hash in hashes]


def _missing(runs: Runs, wanted: Sequence[str], split: SplitName) -> dict[str, RunSpec]:
    """What is to be run, the longest first, so that none is left alone at the end.

    Trained runs of earlier calls too, if the current code has not evaluated them.
    """
    for spec, run in runs.values():
        if run.status is RunStatus.TRAINED:
            run.begin(spec)
    warn_of_stale({label: run for label, (_, run) in runs.items()})
    missing = {
        label: spec
        for label, (spec, run) in runs.items()
        if (label in wanted or run.status is RunStatus.TRAINED)
        and not is_complete(run, spec, split)
    }
    return dict(sorted(missing.items(), key=lambda item: -item[1].schedule.iterations))


def _own_table(stored: Path, data: str | None) -> Path | None:
    """This machine's table of these data (None: of any), also if another took its place."""
    aside = stored.parent.with_name(f"{stored.parent.name}-{data}") / stored.name
    for path in filter(Path.is_file, (stored, aside)):
        if data in (None, TableResult.load(path).provenance["data"]):
            return path
    return None


def _make_way(stored: Path, data: str) -> None:
    """Move a table of other data aside, and an earlier one of these data back, before writing."""
    own, folder = _own_table(stored, data), stored.parent
    if stored.is_file() and own != stored:
        other = TableResult.load(stored).provenance["data"]
        kept = folder.with_name(f"{folder.name}-{other}")
        while kept.exists():
            kept = kept.with_name(f"{kept.name}-earlier")
        folder.rename(kept)
        warnings.warn(f"an earlier table of other data was moved to {kept}", stacklevel=4)
    if own not in (None, stored) and not folder.exists():
        own.parent.rename(folder)


def _runs(table: str, specs: Mapping[str, Sequence[RunSpec]], workspace: Workspace) -> Runs:
    """Each run once, also if several rows share it, with the name of its table and row."""
    found: Runs = {}
    for row, row_specs in specs.items():
        for spec in row_specs:
            run = open_run(workspace.runs, spec)
            if run.hash not in (other.hash for _, other in found.values()):
                named = spec.model_copy(update={"row": f"{table} · {row}"})
                found[f"{row} seed {spec.seed}"] = (named, run)
    return found


def _announcement(
    runs: Runs, missing: Mapping[str, RunSpec], jobs: int, published: TableResult | None
) -> str:
    """What is there, what will be run, and about how long that takes by the published runs."""
    begun = sum(run.status is RunStatus.STARTED for _, run in runs.values())
    done, jobs = len(runs) - len(missing), min(jobs, len(missing))
    text = f"{counted(len(runs), 'run')}, {done} complete, {begun} to be resumed"
    if published is None:
        return text
    costs, rows = published.provenance["runs"], [row for row in published.rows if row.runs]
    times = {row.name: fmean(costs[run]["wall_seconds"] for run in row.runs) for row in rows}
    seconds = 0.0
    for label, spec in missing.items():
        left = 1 - last_iteration(runs[label][1].log_path) / spec.schedule.iterations
        seconds += left * times.get(label.rpartition(" seed ")[0], math.nan)
    if math.isnan(seconds):  # a row that was not published
        return text
    return (
        f"{text}; about {max(seconds / 60 / jobs, 1):.0f} min, {jobs} at a time (as the published "
        f"runs took, on {published.provenance.get('cpu')})"
    )
