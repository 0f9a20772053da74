"""The runs of a workspace as a table for a terminal."""

from __future__ import annotations

from b2inst.experiments.runs.single_run import data_name
from b2inst.experiments.runs.store import Run
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.rendering import aligned
from b2inst.experiments.tables.table_result import NOTHING


def run_table(workspace: Workspace) -> str:
    """The runs of this place as lines of text, the latest first."""
    found = sorted(
        (Run(path.parent) for path in workspace.runs.glob("*/spec.json")),
        key=lambda run: -run.spec_path.stat().st_mtime,
    )
    lines = [["run", "model", "data", "seed", "iterations", "status", "mask AP"]]
    for run in found:
        spec = run.spec()
        reported = run.metrics(spec.data.split_label(spec.data.report_split))
        ap = reported["metrics"]["AP"] if reported else None
        lines.append(
            [
                workspace.shown(run.folder),
                spec.model,
                data_name(spec.data),
                str(spec.seed),
                str(spec.schedule.iterations),
                str(run.status),
                NOTHING if ap is None else f"{ap:.1f}",
            ]
        )
    return aligned(lines) if found else f"{workspace.shown(workspace.runs)}: no runs yet"
