"""From finished runs to a table's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from b2inst.data import CocoIndex
from b2inst.evaluation import Interval, noise_band
from b2inst.evaluation.bootstrap import combined
from b2inst.experiments import Profile, Run, RunError, RunSpec, SplitName, TableSpec, Workspace
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.measuring import RESAMPLES
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import open_run, write_json
from b2inst.experiments.tables.published_run import (
    PublishedDifferences,
    PublishedRun,
    published_differences,
)
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
    published: Mapping[str, PublishedRun] | None = None,
) -> TableResult:
    """Put the paper's cells and ours side by side.

    Args:
        table: The table.
        profile: Profile on prepared data.
        specs: The runs of each row that is trained, on prepared data, in the order of the seeds.
        workspace: Where the runs are.
        split: The split that they were evaluated on.
        speed: What the columns of costs show; without it they are empty.
        published: Published runs, by hash, in place of those that are not complete.
    """
    records = published or {}

    def find(spec: RunSpec) -> Run | None:
        run = open_run(workspace.runs, spec)
        return run if is_complete(run, spec, split) else records.get(spec.hash)

    done = {
        name: {spec.seed: run for spec in row_specs if (run := find(spec)) is not None}
        for name, row_specs in specs.items()
    }
    earlier = [*published_differences(profile.name, workspace)] if records else []
    label = profile.data.split_label(split)
    rows = []
    for row in table.rows:
        runs, base = done.get(row.name, {}), table.bases.get(row.name)
        measured = [(run.metrics(label) or {})["metrics"] for run in runs.values()]
        ours = {c: Measured.of(found.get(c) for found in measured) for c in table.columns}
        delta = {} if base is None else _differences(table, done, label, row.name, base, earlier)
        if speed is not None and runs:
            ours |= speed.costs(row.name)
        if speed is not None and base is not None and delta:
            delta |= speed.differences(row.name, base)
        entry = ResultRow(
            **row.model_dump(include={"name", "group", "setting", "origin"}),
            paper=row.paper | ({} if row.source is None else {"source": row.source}),
            ours=ours if runs else {},
            delta=delta,
            runs=[run.hash for run in runs.values()],
            base=base,
            status="published only" if row.model is None else "run" if runs else "not run",
        )
        rows.append(entry)
    return TableResult(
        table=table.name,
        profile=profile.name,
        split=None if split == profile.data.report_split else split,
        columns=list(table.columns),
        rows=rows,
        contrasts=[
            ContrastResult(
                **c.model_dump(), delta=_differences(table, done, label, c.row, c.base, earlier)
            )
            for c in table.contrasts
        ],
        provenance=_provenance(table, profile, done, label, speed),
    )


def save_runs(result: TableResult, workspace: Workspace) -> None:
    """Write ``<results>/<profile>/runs/<hash>.json``: each run's spec, provenance and metrics.

    A table of another split than the reported one has the records of its runs beside it. Published
    runs have theirs.
    """
    label, folder = result.provenance["split"], workspace.results / result.profile
    folder = folder if result.split is None else result.folder(workspace)
    costs = result.provenance["runs"]
    for name in (name for name, cost in costs.items() if not cost["published"]):
        run = Run(workspace.runs / name)
        content = {
            "hash": run.hash,
            "spec": run.spec().identity(),
            "provenance": run.provenance(),
            "evaluation": run.metrics(label),
            "predictions": workspace.shown(run.predictions_path(label)),
        }
        write_json(folder / "runs" / f"{name}.json", content)


def finished_runs(result: TableResult, row: str, workspace: Workspace) -> list[Run]:
    """Return the runs of a row, in the order of the seeds; RunError if there are none."""
    runs = [Run(workspace.runs / name) for name in result.row(row).runs]
    files = [run.predictions_path(result.provenance["split"]) for run in runs]
    gone = next((file for file in files if not file.is_file()), None)
    if not runs or gone is not None:
        raise RunError(
            f"row '{row}' of {result.table}: no finished run at "
            f"{workspace.shown(gone or workspace.runs)}; make it with "
            f"`b2inst table {result.table} --profile {result.profile}`"
        )
    return runs


def evaluated_split(result: TableResult, run: Run, workspace: Workspace) -> CocoIndex:
    """Load the split that a table shows of a run."""
    data = prepare(run.spec().data, workspace.data)
    return load_split(data, result.split or data.report_split, workspace.data)


def _differences(
    table: TableSpec,
    done: Mapping[str, Mapping[int, Run]],
    label: str,
    row: str,
    base: str,
    earlier: Sequence[PublishedDifferences],
) -> dict[str, Difference]:
    """The metrics of a row minus those of another, over the seeds both have.

    Published runs have no resamples: with them, the noise of the images is that of the published
    difference which shares most runs.
    """
    runs, others = done.get(row, {}), done.get(base, {})
    both_runs = [(runs[seed], others[seed]) for seed in runs if seed in others]
    here = not any(isinstance(run, PublishedRun) for pair in both_runs for run in pair)
    names = ({run.hash for run in runs.values()}, {run.hash for run in others.values()})
    best = max(earlier, key=lambda one: one.common(*names), default=None)
    known = best.delta if best is not None and best.common(*names) else {}
    read = (lambda run: run.resampled(label)) if here else (lambda run: _constant(run, label))
    pairs = [(read(run), read(other)) for run, other in both_runs]
    differences = {}
    for column in table.metrics if pairs else ():
        differences[column] = Difference(mean=None, base=base)
        # Not all metrics are measured on the split that score thresholds are chosen on.
        both = [(a[column], b[column]) for a, b in pairs if column in a.keys() & b.keys()]
        noise = noise_band(*zip(*both, strict=True)) if both else None
        if noise is None:
            continue
        band: Interval | None = noise.band
        images: Interval | None = noise.images
        if not here:  # the band is Student's, if there are several seeds
            images = _images(noise.band.mean, known.get(column))
            if images is not None:
                band = combined(images, noise.band.high - noise.band.mean)
            elif len(both) == 1:
                band = None
        differences[column] = Difference(
            mean=noise.band.mean,
            ci95=images and images[1:],
            base=base,
            sd=noise.seed_sd,
            band95=band and band[1:],
        )
    return differences


def _images(mean: float, earlier: Difference | None) -> Interval | None:
    """The interval over images of an earlier table, about another mean."""
    if earlier is None or earlier.mean is None or earlier.ci95 is None:
        return None
    low, high = (mean + bound - earlier.mean for bound in earlier.ci95)
    return Interval(mean, low, high)


def _constant(run: Run, label: str) -> dict[str, np.ndarray]:
    """The metrics of a run, as resamples without noise."""
    metrics = (run.metrics(label) or {})["metrics"]
    return {name: np.full(2, value, dtype=np.float64) for name, value in metrics.items()}


def _provenance(
    table: TableSpec,
    profile: Profile,
    done: Mapping[str, Mapping[int, Run]],
    label: str,
    speed: TableSpeed | None,
) -> dict[str, Any]:
    runs = {run.hash: run for row_runs in done.values() for run in row_runs.values()}
    facts = next((run.metrics(label) or {} for run in runs.values()), {})  # alike for all
    note = " ".join(filter(None, (profile.note, table.note)))
    costs = {}
    for name, run in runs.items():
        provenance = run.provenance()
        steps = provenance.get("steps", {}).values()
        costs[name] = {key: provenance.get(key) for key in ("seed", "commit", "dirty", "device")}
        costs[name] |= {
            "wall_seconds": round(sum(step["wall_seconds"] for step in steps), 1),
            "peak_memory_mb": max((s.get("peak_memory_mb") or 0 for s in steps), default=None),
            "published": isinstance(run, PublishedRun),
        }
    return {
        **describe_machine(),
        "rendered": now(),
        "source": table.source,
        "title": table.title,
        **({"note": note} if note else {}),
        "data": profile.data.name,
        "split": label,
        "images": facts.get("images"),
        "area_bounds": list(profile.data.area_bounds),
        "boundary_pixels": profile.data.boundary_pixels,
        "max_detections": profile.max_detections,
        **{key: facts.get(key) for key in ("objects", "touching", "swallowed")},
        "seeds": sorted({seed for row_runs in done.values() for seed in row_runs}),
        "resamples": RESAMPLES,
        "runs": costs,
        **({} if speed is None else {"speed": speed.conditions()}),
    }
