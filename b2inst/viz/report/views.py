"""Results as the templates print them: text, and links that lead somewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from b2inst.experiments.tables.rendering import NOISE, explain, setting_text, to_frame
from b2inst.experiments.tables.table_result import ResultRow
from b2inst.viz.report.contents import Benchmark, Contents, Picture, Table, uses_of_runs
from b2inst.viz.report.intervals import difference_scale

RUNS_PAGE = "report/runs.html"

_FORMS = {
    ".md": "Markdown",
    ".csv": "CSV",
    ".tex": "LaTeX",
    ".json": "JSON",
    ".html": "notebook as a page",
    ".ipynb": "notebook",
}


def table_view(table: Table, contents: Contents) -> dict[str, Any]:
    """A table: its cells as printed, its differences on a scale, pictures and files."""
    result = table.result
    frame = to_frame(result)
    is_papers = any(row.paper for row in result.rows)
    scales = [difference_scale(result, column) for column in ("AP", "boundary_AP")]
    return {
        "id": slug(table.name),
        "name": heading(table.name),
        "title": result.provenance.get("title", ""),
        "source": result.provenance.get("source", ""),
        "columns": list(frame.columns),
        "rows": [
            {
                "name": row.name,
                "place": " · ".join(
                    filter(None, [str(row.paper.get("source", "")), setting_text(row)])
                ),
                "status": row.status,
                "lines": [
                    _line(source, frame.loc[(row.name, source)].tolist(), row, table, contents)
                    for source in frame.loc[row.name].index
                    if is_papers or source != "paper"
                ],
                "runs": [_run_link(name, contents) for name in row.runs],
            }
            for row in result.rows
        ],
        "scales": [scale for scale in scales if scale is not None],
        "explained": explain(result),
        "pictures": [picture_view(p, contents.folder) for p in table.pictures],
        "files": [file_view(path, contents.folder, result.table) for path in table.files],
    }


def row_views(table: Table, contents: Contents) -> dict[str, Any]:
    """The seeds behind each row's means, for the page of runs."""
    result = table.result
    return {
        "id": slug(table.name),
        "name": heading(table.name),
        "title": result.provenance.get("title", ""),
        "columns": list(to_frame(result).columns),
        "rows": [
            {
                "id": row_anchor(table, row),
                "name": row.name,
                "runs": [
                    _run_link(name, contents)
                    | {"cells": [_metric(contents.runs[name], c) for c in result.columns]}
                    for name in row.runs
                    if name in contents.runs
                ],
            }
            for row in result.rows
            if any(name in contents.runs for name in row.runs)
        ],
    }


def run_views(contents: Contents) -> list[dict[str, Any]]:
    """Each run's record, by model and seed."""
    uses = uses_of_runs(contents.tables)
    rows = {(t.name, r.name): row_anchor(t, r) for t in contents.tables for r in t.result.rows}
    views = [
        {
            "id": f"run-{name}",
            "hash": name,
            "model": record["spec"]["model"],
            "seed": record["spec"].get("seed"),
            "uses": [
                {"text": f"{heading(table)}, {row}", "href": f"#{rows[table, row]}"}
                for table, row in uses.get(name, [])
            ],
            "facts": run_facts(record),
            "metrics": _metrics(record),
            "spec": yaml.safe_dump(record["spec"], sort_keys=False, allow_unicode=True),
            "record": f"../runs/{name}.json",
        }
        for name, record in contents.runs.items()
    ]
    return sorted(views, key=lambda v: (v["model"], v["spec"].partition("seed:")[0], v["seed"]))


def run_facts(record: Mapping[str, Any]) -> dict[str, str]:
    """Where a run's numbers come from, as a list of terms; what is not recorded is left out."""
    provenance = record.get("provenance", {})
    evaluation = record.get("evaluation") or {}
    dirty = {True: " with local changes", False: ", clean"}.get(provenance.get("dirty"), "")
    code, data = provenance.get("code", {}), provenance.get("data", {})
    facts = {
        "commit": f"{provenance['commit']}{dirty}" if provenance.get("commit") else None,
        "code": ", ".join(f"{part} {digits}" for part, digits in code.items()),
        "data": "; ".join(
            f"{split}: {of['images']} images, {of['annotations']} objects, "
            f"fingerprint {of['fingerprint'][:12]}"
            for split, of in data.items()
        ),
        "evaluated on": f"{evaluation['images']} images of {evaluation['split']}"
        if evaluation
        else None,
        "machine": ", ".join(
            str(value)
            for value in (
                provenance.get("device"),
                provenance.get("cpu"),
                f"threads: {provenance['threads']}" if provenance.get("threads") else None,
                provenance.get("platform"),
            )
            if value
        ),
        "time and memory": "; ".join(
            _cost(step, cost) for step, cost in provenance.get("steps", {}).items()
        ),
        "parameters": f"{provenance['parameters']:,}" if provenance.get("parameters") else None,
        "versions": ", ".join(
            f"{name} {number}" for name, number in provenance.get("versions", {}).items()
        ),
        "predictions": record.get("predictions"),
    }
    return {term: value for term, value in facts.items() if value}


def benchmark_view(benchmark: Benchmark, contents: Contents) -> dict[str, Any]:
    """A benchmark: a line a model, its stages as parts of a bar, overheads."""
    content = benchmark.content
    longest = max((speed["median_ms"] for speed in content["speeds"]), default=1.0)
    file = relative(benchmark.path, contents.folder)
    name = benchmark.path.stem
    stages = list(dict.fromkeys(s for speed in content["speeds"] for s in speed["stages_ms"]))
    return {
        "id": slug(f"speed-{file}"),
        "name": heading(benchmark.path.parent.name) if name == "speed" else name,
        "file": file,
        "setting": f"{content['images']} images ({content.get('image_source', '')}), one at a "
        f"time; {content.get('device', '')}, {content.get('dtype', '')}, "
        f"{content.get('threads', '?')} CPU threads",
        "stages": stages,
        "speeds": [
            {
                "model": speed["model"],
                "network": "×".join(map(str, speed["network_size"])),
                "fps": f"{1e3 / speed['median_ms']:.2f}",
                "median": f"{speed['median_ms']:.1f}",
                "p90": f"{speed['p90_ms']:.1f}",
                "parameters": f"{speed['parameters'] / 1e6:.1f}",
                "gflops": f"{speed['gflops']:.1f}",
                "memory": f"{speed['peak_memory_mb']:.0f}",
                "stages": [
                    {
                        "name": stage,
                        "ms": f"{speed['stages_ms'].get(stage, 0):.1f}",
                        "width": round(100 * speed["stages_ms"].get(stage, 0) / longest, 2),
                    }
                    for stage in stages
                ],
            }
            for speed in content["speeds"]
        ],
        "overheads": [
            f"{o['model']} takes {o['percent']:+.1f} % of time more than {o['baseline']}"
            for o in content.get("overheads", [])
        ],
    }


def picture_view(picture: Picture, folder: Path) -> dict[str, Any]:
    """A picture; its alternative text is the first sentence of the caption."""
    return {
        "src": relative(picture.path, folder),
        "id": slug(f"picture-{relative(picture.path, folder)}"),
        "alt": re.split(r"(?<=[.;:])\s", picture.caption, maxsplit=1)[0].rstrip(".;:"),
        "caption": picture.caption,
        "pdf": relative(picture.print_version, folder) if picture.print_version else None,
    }


def file_view(path: Path, folder: Path, stem: str) -> dict[str, str]:
    """A link; a file of the table's own name is called by its form."""
    form = _FORMS.get(path.suffix, path.suffix)
    text = form if path.stem == stem else f"{path.stem.replace('_', ' ')} ({form})"
    return {"href": relative(path, folder), "text": text}


def row_anchor(table: Table, row: ResultRow) -> str:
    """Of a row's seeds on the page of runs."""
    return slug(f"{table.name}-{table.result.rows.index(row) + 1}-{row.name}")


def heading(table: str) -> str:
    """A table's name as the paper writes it."""
    return re.sub(r"^table(\d+)$", r"Table \1", table)


def slug(text: str) -> str:
    """As an ``id`` in HTML."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def relative(path: Path, folder: Path) -> str:
    """As a link from a page in ``folder``."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _line(
    source: str, cells: list[str], row: ResultRow, table: Table, contents: Contents
) -> dict[str, Any]:
    """A line of a table; our numbers lead to the seeds behind them."""
    kind = {"paper": "paper", "ours": "ours"}.get(source, "delta")
    known = [name for name in row.runs if name in contents.runs]
    target = None
    if kind != "paper" and known:
        target = f"{RUNS_PAGE}#{row_anchor(table, row)}"
    return {
        "source": source,
        "kind": kind,
        "cells": [
            {
                "text": text,
                "noise": NOISE in text,
                "href": target if any(c.isdigit() for c in text) else None,
            }
            for text in cells
        ],
    }


def _run_link(name: str, contents: Contents) -> dict[str, Any]:
    record = contents.runs.get(name)
    return {
        "hash": name,
        "text": f"seed {record['spec'].get('seed')}" if record else name,
        "anchor": f"run-{name}" if record else None,
    }


def _metric(record: Mapping[str, Any], column: str) -> str:
    value = ((record.get("evaluation") or {}).get("metrics") or {}).get(column)
    return "–" if value is None else f"{value:.1f}"


def _metrics(record: Mapping[str, Any]) -> dict[str, str]:
    metrics = (record.get("evaluation") or {}).get("metrics") or {}
    return {name.replace("_", " "): _metric(record, name) for name in metrics}


def _cost(step: str, cost: Mapping[str, Any]) -> str:
    memory = cost.get("peak_memory_mb")
    gpu = cost.get("peak_gpu_memory_mb")
    text = f"{step} {cost['wall_seconds'] / 60:.1f} min"
    text += f", {memory / 1000:.2f} GB" if memory else ""
    return text + (f", {gpu / 1000:.2f} GB of GPU memory" if gpu else "")
