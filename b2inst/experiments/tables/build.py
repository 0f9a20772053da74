"""From finished runs to a table and its files under ``results/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from b2inst.evaluation.bootstrap import noise_band
from b2inst.experiments.runs.measuring import RESAMPLES
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import Run, open_run, write_json
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.profile import Profile
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import Row, TableSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.speed import TableSpeed
from b2inst.experiments.tables.table_result import (
    ContrastResult,
    Difference,
    Measured,
    ResultRow,
    TableResult,
)


def build_table(
    table: TableSpec,
    profile: Profile,
    specs: Mapping[str, Sequence[RunSpec]],
    workspace: Workspace,
    *,
    split: SplitName,
    speed: TableSpeed | None = None,
) -> TableResult:
    """Put the paper's cells and ours side by side; what has not been run says so.

    Args:
        specs: the runs of each row that is trained, on prepared data, in the order of the seeds.
        speed: what the columns of costs show; without it they are empty.
    """
    done = {
        name: {
            spec.seed: run
            for spec in row_specs
            if is_complete(run := open_run(workspace.runs, spec), spec, split)
        }
        for name, row_specs in specs.items()
    }
    label = profile.data.split_label(split)
    note = " ".join(filter(None, (profile.note, table.note)))
    rows = [_row(table, row, done, label, speed) for row in table.rows]
    runs = {run.hash: run for row_runs in done.values() for run in row_runs.values()}
    return TableResult(
        table=table.name,
        profile=profile.name,
        columns=list(table.columns),
        rows=rows,
        contrasts=[
            ContrastResult(
                **contrast.model_dump(),
                delta=_differences(
                    done.get(contrast.row, {}),
                    done.get(contrast.base, {}),
                    contrast.base,
                    table,
                    label,
                ),
            )
            for contrast in table.contrasts
        ],
        provenance={
            **describe_machine(),
            "rendered": now(),
            "source": table.source,
            "title": table.title,
            **({"note": note} if note else {}),
            "data": profile.data.name,
            "split": label,
            "images": _agreed(runs, label, "images"),
            "area_bounds": list(profile.data.area_bounds),
            "boundary_pixels": profile.data.boundary_pixels,
            "max_detections": profile.max_detections,
            **{key: _agreed(runs, label, key) for key in ("objects", "touching", "swallowed")},
            "seeds": sorted({seed for row_runs in done.values() for seed in row_runs}),
            "resamples": RESAMPLES,
            "runs": {run.hash: _cost(run) for run in runs.values()},
            **({} if speed is None else {"speed": speed.conditions()}),
        },
    )


def save_runs(result: TableResult, workspace: Workspace) -> None:
    """Write ``<results>/<profile>/runs/<hash>.json``: each run's spec, provenance and metrics."""
    for name in dict.fromkeys(name for row in result.rows for name in row.runs):
        run = Run(workspace.runs / name)
        label = result.provenance["split"]
        spec = run.spec()
        content = {
            "hash": run.hash,
            "spec": spec.identity(),
            "provenance": run.provenance(),
            "evaluation": run.metrics(label),
            "predictions": workspace.shown(run.predictions_path(label)),
        }
        write_json(workspace.results / result.profile / "runs" / f"{name}.json", content)


def _row(
    table: TableSpec,
    row: Row,
    done: Mapping[str, Mapping[int, Run]],
    label: str,
    speed: TableSpeed | None,
) -> ResultRow:
    paper: dict[str, float | str] = dict(row.paper)
    if row.source is not None:
        paper["source"] = row.source
    runs = done.get(row.name, {})
    status: Literal["run", "not run", "published only"] = (
        "published only" if row.model is None else "run" if runs else "not run"
    )
    base = table.bases.get(row.name)
    measured = [run.metrics(label) or {} for run in runs.values()]
    ours = {
        column: Measured.of(found["metrics"].get(column) for found in measured)
        for column in table.columns
    }
    delta = {} if base is None else _differences(runs, done.get(base, {}), base, table, label)
    if speed is not None and runs:
        ours |= {column: speed.costs(row.name)[column] for column in table.costs}
    if speed is not None and base is not None and delta:
        delta |= {column: speed.differences(row.name, base)[column] for column in table.costs}
    return ResultRow(
        name=row.name,
        paper=paper,
        ours=ours if runs else {},
        delta=delta,
        runs=[run.hash for run in runs.values()],
        base=base,
        status=status,
        group=row.group,
        setting=row.setting,
        origin=row.origin,
    )


def _differences(
    runs: Mapping[int, Run], others: Mapping[int, Run], base: str, table: TableSpec, label: str
) -> dict[str, Difference]:
    seeds = [seed for seed in runs if seed in others]
    if not seeds:
        return {}
    ours = [runs[seed].resampled(label) for seed in seeds]
    theirs = [others[seed].resampled(label) for seed in seeds]
    differences = {}
    for column in table.metrics:
        noise = noise_band([r[column] for r in ours], [r[column] for r in theirs])
        differences[column] = (
            Difference(mean=None, ci95=None, base=base)
            if noise is None
            else Difference(
                mean=noise.band.mean,
                ci95=(noise.images.low, noise.images.high),
                base=base,
                sd=noise.seed_sd,
                band95=(noise.band.low, noise.band.high),
                inside_noise=noise.inside,
            )
        )
    return differences


def _agreed(runs: Mapping[str, Run], label: str, key: str) -> Any:
    values = {(run.metrics(label) or {}).get(key) for run in runs.values()}
    return values.pop() if len(values) == 1 else None


def _cost(run: Run) -> dict[str, Any]:
    provenance = run.provenance()
    steps = provenance.get("steps", {}).values()
    return {
        "seed": provenance.get("seed"),
        "commit": provenance.get("commit"),
        "dirty": provenance.get("dirty"),
        "device": provenance.get("device"),
        "wall_seconds": round(sum(step["wall_seconds"] for step in steps), 1),
        "peak_memory_mb": max((step.get("peak_memory_mb") or 0 for step in steps), default=None),
    }
