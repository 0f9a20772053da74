"""A table of this machine beside the published one in ``results/``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from b2inst.experiments.runs.store import read_json
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.table_spec import COSTS
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.rendering import (
    aligned,
    heading,
    markdown_lines,
    measured_text,
)
from b2inst.experiments.tables.table_result import NOTHING, ResultRow, TableResult


def load_published(profile: str, table: str, workspace: Workspace) -> TableResult | None:
    """The published table of a profile; None where there is none."""
    path = workspace.published / profile / table / f"{table}.json"
    return TableResult.load(path) if path.is_file() else None


def comparison_text(result: TableResult, workspace: Workspace) -> str:
    """Published and own numbers by row, for a terminal; empty where nothing is published."""
    cells, summary = _comparison(result, workspace)
    return f"{aligned(cells)}\n{summary}" if cells else ""


def comparison_markdown(result: TableResult, workspace: Workspace) -> str:
    """The same as Markdown."""
    cells, summary = _comparison(result, workspace)
    if not cells:
        return "No published table to compare with."
    return "\n".join([*markdown_lines(cells), "", summary])


def expected_seconds(rows: Iterable[str], published: TableResult | None) -> float | None:
    """How long one run of each of ``rows`` took when it was published; None where unknown.

    Args:
        rows: names; a row counts as often as it occurs.
    """
    if published is None:
        return None
    costs, total = published.provenance["runs"], 0.0
    known = {row.name: row.runs for row in published.rows if row.runs}
    for name in rows:
        if name not in known:
            return None
        total += sum(costs[run]["wall_seconds"] for run in known[name]) / len(known[name])
    return total


def publish(profile: str, workspace: Workspace) -> list[Path]:
    """Move a profile's results of this machine to where published ones lie; for maintainers.

    A table replaces the published table of its name, other files theirs; what has no successor
    stays. Benchmarks in ``results/local/`` move as well.

    Returns:
        What was replaced or added: folders of tables, and files.

    Raises:
        RunError: there are none, or a table was made from uncommitted code.
    """
    source, target = workspace.results / profile, workspace.published / profile
    if not source.is_dir():
        raise RunError(f"{workspace.shown(source)}: no results; make some with `make table1`")
    for path in sorted(source.glob("*/*.json")):
        if path.stem != path.parent.name:
            continue
        unclean = [
            name
            for name, cost in TableResult.load(path).provenance["runs"].items()
            if cost["dirty"] is not False
        ]
        if unclean:
            raise RunError(
                f"{workspace.shown(path)}: runs {', '.join(unclean)} were made from code that was "
                "not committed; commit it, and repeat them with --rerun"
            )
    moved = []
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and (path / f"{path.name}.json").is_file() and place.is_dir():
            shutil.rmtree(place)
        if path.is_dir():
            shutil.copytree(path, place, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        moved.append(place)
    shutil.rmtree(source)
    for path in sorted(workspace.results.glob("*.json")):
        moved.append(path.replace(workspace.published / path.name))
    return moved


def _comparison(result: TableResult, workspace: Workspace) -> tuple[list[list[str]], str]:
    published = load_published(result.profile, result.table, workspace)
    if published is None or not result.seeds:
        return [], ""
    column = next(c for c in result.columns if c not in COSTS)
    name = heading(column)
    seeds = f"{published.seeds} seed{'s' * (published.seeds != 1)}"
    here = f"{result.seeds} seed{'s' * (result.seeds != 1)}"
    cells = [["row", f"{name} published, {seeds}", f"{name} on this machine, {here}"]]
    others = {row.name: row for row in published.rows}
    same = 0
    gaps: list[float] = []
    for row in result.rows:
        if not row.runs:
            continue
        other = others.get(row.name)
        cells.append([row.name, _cell(other, column), _cell(row, column)])
        for run in row.runs if other else ():
            gap = _largest_gap(run, result.profile, workspace)
            if gap is not None:
                same += gap == 0
                gaps.append(gap)
    if not gaps:
        return cells, "No run here has the settings and the seed of a published one."
    if same == len(gaps):
        return cells, f"{same} runs are published as well, and all their metrics agree exactly."
    return cells, (
        f"{len(gaps)} runs are published as well: of {same} all metrics agree exactly, those of "
        f"the others differ by up to {max(gaps):.2g}. Other processors and versions of PyTorch "
        "round differently, which training amplifies."
    )


def _cell(row: ResultRow | None, column: str) -> str:
    return NOTHING if row is None or not row.runs else measured_text(row, column)


def _largest_gap(run: str, profile: str, workspace: Workspace) -> float | None:
    """Largest difference of a metric between a run here and the published one of its name."""
    paths = [
        folder / profile / "runs" / f"{run}.json"
        for folder in (workspace.published, workspace.results)
    ]
    if not all(path.is_file() for path in paths):
        return None
    theirs, ours = (read_json(path)["evaluation"]["metrics"] for path in paths)
    shared = [k for k in theirs.keys() & ours.keys() if theirs[k] is not None is not ours[k]]
    return max((abs(theirs[key] - ours[key]) for key in shared), default=None)
