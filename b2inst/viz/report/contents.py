"""What lies in ``results/<profile>/``, as the report shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2inst.experiments.runs.store import read_json
from b2inst.experiments.tables.table_result import TableResult

#: What the pictures that tables and measurements have beside them show.
CAPTIONS = {
    "designs": "The models of the rows, drawn from what flows through them.",
    "curves": "Training curves: a panel a loss, a colour a row, a line a seed.",
    "calibration": "Predicted against true mask quality; on the diagonal a scoring head is right.",
    "contrasts": "Questions, each the difference of two rows; hollow where zero is in its band.",
    "forming": "Masks as they form: those that the steps improve most, at the median, and least.",
    "qualitative": "Ground truth and what models predict; images chosen by rule.",
    "boundaries": "The boundary that each row predicts, beside the target.",
    "boundary_targets": "The boundary target at several strides, on scenes and photographs.",
}


@dataclass(frozen=True)
class Picture:
    """A PNG of the results."""

    path: Path
    caption: str
    print_version: Path | None = None  #: PDF


@dataclass(frozen=True)
class Table:
    """A table with what lies beside it."""

    name: str  #: of its folder
    result: TableResult
    pictures: list[Picture]
    files: list[Path]  #: the table in other forms, its notebook, further measurements


@dataclass(frozen=True)
class Benchmark:
    """What ``b2inst bench --json`` wrote, or a table with speeds beside it."""

    path: Path
    content: dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """All results of a profile."""

    folder: Path
    tables: list[Table]
    figures: list[Picture]
    missing_figures: dict[str, str]  #: name → why it is not drawn
    benchmarks: list[Benchmark]
    pictures: list[Picture]  #: of measurements that belong to no table
    files: list[Path]  #: of such measurements
    runs: dict[str, dict[str, Any]]  #: records by hash


def read_contents(folder: Path) -> Contents:
    """Read a profile's results; what is not there is empty.

    Raises:
        SpecError: a table's JSON is of another version of the package.
    """
    tables = [
        Table(path.parent.name, TableResult.load(path), _pictures(path.parent), _files(path.parent))
        for path in sorted(folder.glob("*/*.json"), key=_numbered_first)
        if _is_table(path)
    ]
    figures = folder / "figures"
    records = _records(figures / "figures.json")
    own = {path: _benchmark(path) for path in sorted(folder.glob("*.json"))}
    others = [*sorted(folder.glob("*/speed.json")), *sorted(folder.parent.glob("*.json"))]
    everywhere = own | {path: _benchmark(path) for path in others}
    found = {path: content for path, content in everywhere.items() if content is not None}
    return Contents(
        folder=folder,
        tables=tables,
        figures=[
            Picture(path, _caption(path, records), pdf if pdf.is_file() else None)
            for path in sorted(figures.glob("*.png"), key=lambda p: _place(p, records))
            if (pdf := path.with_suffix(".pdf")) is not None
        ],
        missing_figures={
            name: record["missing"]
            for name, record in records.items()
            if "missing" in record and not (figures / f"{name}.png").is_file()
        },
        benchmarks=[Benchmark(path, content) for path, content in found.items()],
        pictures=_pictures(folder),
        files=[path for path, content in own.items() if content is None],
        runs={path.stem: read_json(path) for path in sorted((folder / "runs").glob("*.json"))},
    )


def _is_table(path: Path) -> bool:
    """``<table>/<table>.json``, or of another split or time in ``<table>-…/``."""
    return f"{path.parent.name}-".startswith(f"{path.stem}-") and "rows" in read_json(path)


def _numbered_first(path: Path) -> tuple[bool, str]:
    """The paper's tables, then others, each by the name of its folder."""
    return not path.stem.startswith("table"), path.parent.name


def _pictures(folder: Path) -> list[Picture]:
    order = list(CAPTIONS)
    paths = sorted(
        folder.glob("*.png"),
        key=lambda p: (order.index(p.stem) if p.stem in order else len(order), p.stem),
    )
    return [Picture(path, CAPTIONS.get(path.stem, _words(path.stem))) for path in paths]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".png")


def _records(path: Path) -> dict[str, dict[str, Any]]:
    """What ``figures.json`` says, by name of the figure."""
    if not path.is_file():
        return {}
    return {record["name"]: record for record in read_json(path)["figures"]}


def _caption(path: Path, records: dict[str, dict[str, Any]]) -> str:
    return str(records.get(path.stem, {}).get("caption") or _words(path.stem))


def _place(path: Path, records: dict[str, dict[str, Any]]) -> tuple[int, str]:
    names = list(records)
    return (names.index(path.stem) if path.stem in names else len(names)), path.stem


def _benchmark(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None
    if not isinstance(content, dict):
        return None
    inner = content.get("benchmark", content)  # a table's speed.json says more about it
    return inner if isinstance(inner, dict) and {"speeds", "images"} <= set(inner) else None


def _words(stem: str) -> str:
    return stem.replace("_", " ").capitalize()


def uses_of_runs(tables: Iterable[Table]) -> dict[str, list[tuple[str, str]]]:
    """By a run's hash, the (table, row) that its numbers go into."""
    uses: dict[str, list[tuple[str, str]]] = {}
    for table in tables:
        for row in table.result.rows:
            for run in row.runs:
                uses.setdefault(run, []).append((table.name, row.name))
    return uses
