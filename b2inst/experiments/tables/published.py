"""A table of this machine beside the published one in ``results/``."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from b2inst.data.wording import counted
from b2inst.experiments import Run, RunError, RunStatus, SpecError, Workspace
from b2inst.experiments.runs.launch import last_iteration
from b2inst.experiments.runs.single_run import data_name
from b2inst.experiments.runs.store import read_json
from b2inst.experiments.specs.table_spec import COSTS
from b2inst.experiments.tables.rendering import aligned, heading, markdown_lines, measured_text
from b2inst.experiments.tables.table_result import NOTHING, TableResult


def load_published(
    profile: str, table: str, workspace: Workspace, *, data: str | None = None
) -> TableResult | None:
    """Read the published table of a profile, if there is one; with ``data``, if it is of these."""
    path = workspace.published / profile / table / f"{table}.json"
    found = TableResult.load(path) if path.is_file() else None
    return found if found and data in (None, found.provenance.get("data")) else None


def comparison_text(result: TableResult, workspace: Workspace) -> str:
    """Render published and own numbers by row for a terminal."""
    cells, summary = comparison(result, workspace)
    return "\n".join([*([aligned(cells)] if cells else []), summary])


def comparison_markdown(result: TableResult, workspace: Workspace) -> str:
    """Render the same as Markdown."""
    cells, summary = comparison(result, workspace)
    return "\n".join([*markdown_lines(cells), "", summary] if cells else [summary])


def publish(profile: str, workspace: Workspace) -> list[Path]:
    """Move a profile's results, without pages, and benchmarks to the published ones.

    A table replaces the published table of its name, other files theirs; all else stays.

    Returns:
        What was replaced or added: folders of tables, and files.

    Raises:
        RunError: No results, a table of uncommitted code or of runs that have no record here, or
            fewer seeds than are published.
    """
    source, target = workspace.results / profile, workspace.published / profile
    if not source.is_dir():
        raise RunError(f"{workspace.shown(source)}: no results; make some with `b2inst table`")
    tables = [p for p in sorted(source.glob("*/*.json")) if "columns" in read_json(p)]
    for path in tables:
        table = TableResult.load(path)
        costs = table.provenance["runs"]
        here = {name for name, cost in costs.items() if not cost.get("published")}
        if not here or not all((source / f"runs/{name}.json").is_file() for name in here):
            raise RunError(
                f"{workspace.shown(path)}: was not run here; run it, or delete {path.parent.name}/"
            )
        known = target / path.relative_to(source)
        if known.is_file() and table.seeds < (seeds := TableResult.load(known).seeds):
            raise RunError(
                f"{workspace.shown(path)}: {table.seeds} of the {seeds} seeds of the published "
                "table; run the others, or delete the published table first"
            )
        if unclean := [name for name, cost in costs.items() if cost["dirty"] is not False]:
            raise RunError(
                f"{workspace.shown(path)}: runs {', '.join(unclean)} were made from code that was "
                "not committed; commit it, and repeat them with --rerun"
            )
    for path in tables:
        shutil.rmtree(target / path.parent.name, ignore_errors=True)
    moved = [target / path.name for path in sorted(source.iterdir()) if path.suffix != ".html"]
    no_pages = shutil.ignore_patterns("*.html")
    shutil.copytree(source, target, ignore=no_pages, dirs_exist_ok=True)
    shutil.rmtree(source)
    for path in sorted(workspace.results.glob("*.json")):
        moved.append(path.replace(workspace.published / path.name))
    return moved


def run_table(workspace: Workspace) -> str:
    """Render the runs of a workspace for a terminal, the latest first."""
    paths = workspace.runs.glob("*/spec.json")
    lines = [["run", "row", "model", "data", "seed", "iterations", "status", "mask AP"]]
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        run = Run(path.parent)
        try:
            spec = run.spec()
        except SpecError:
            lines.append(
                [workspace.shown(run.folder), *[NOTHING] * 5, "of another version", NOTHING]
            )
            continue
        reported = run.metrics(spec.data.split_label(spec.data.report_split))
        ap = reported["metrics"]["AP"] if reported else None
        total, status = spec.schedule.iterations, str(run.status)
        if run.status is RunStatus.STARTED:
            status, stopped = "running", f"interrupted at {last_iteration(run.log_path)}/{total}"
            with suppress(RunError), run.locked():
                status = stopped
        cells = [workspace.shown(run.folder), spec.row or NOTHING, spec.model]
        cells += [data_name(spec.data), str(spec.seed), str(total), status]
        lines.append([*cells, NOTHING if ap is None else f"{ap:.1f}"])
    return aligned(lines) if lines[1:] else f"{workspace.shown(workspace.runs)}: no runs yet"


def comparison(result: TableResult, workspace: Workspace) -> tuple[list[list[str]], str]:
    """Return published and own numbers by row, and a sentence on how far the runs agree."""
    data = result.provenance.get("data")
    published = load_published(result.profile, result.table, workspace, data=data)
    if published is None or not result.seeds:
        wanted = f"{result.table} of profile {result.profile} and these data"
        return [], f"results/ has no {wanted} to compare with."
    column = next(c for c in result.columns if c not in COSTS)
    there, here = (counted(n, "seed") for n in (published.seeds, result.seeds))
    name = heading(column)
    cells = [["row", f"{name} published, {there}", f"{name} on this machine, {here}"]]
    others = {row.name: row for row in published.rows if row.runs}
    gaps: dict[str, float] = {}  # the largest of any metric, of each run that both have
    for row in (row for row in result.rows if row.runs):
        theirs = measured_text(others[row.name], column) if row.name in others else NOTHING
        cells.append([row.name, theirs, measured_text(row, column)])
        for run in row.runs if row.name in others else ():
            folders = (workspace.published, workspace.results)
            paths = [folder / result.profile / "runs" / f"{run}.json" for folder in folders]
            if all(path.is_file() for path in paths):
                old, new = (read_json(path)["evaluation"]["metrics"] for path in paths)
                both = [k for k in old.keys() & new.keys() if old[k] is not None is not new[k]]
                gaps[run] = max(abs(old[key] - new[key]) for key in both)
    same = [*gaps.values()].count(0)
    if not gaps:
        return cells, "No run here has the settings and the seed of a published one."
    if same == len(gaps):
        return cells, f"{counted(same, 'run')} published too: all metrics agree exactly."
    return cells, (
        f"{counted(len(gaps), 'run')} published too, {same} with exactly the same metrics; the "
        f"largest difference of any metric is {max(gaps.values()):.2g}. Other processors, and "
        "other versions of PyTorch and of this code, round differently, which training amplifies."
    )
