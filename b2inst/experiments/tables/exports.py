"""A table's result as files: JSON, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from b2inst.experiments.tables.rendering import (
    NOISE,
    SETTING,
    explain,
    has_settings,
    heading,
    row_lines,
    setting_cells,
    to_markdown,
)
from b2inst.experiments.tables.table_result import NOTHING, Difference, Measured, TableResult


def write_table(result: TableResult, folder: Path) -> dict[str, Path]:
    """Write ``<table>.json``, ``.md``, ``.csv`` and ``.tex``; returns the files by ending."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {end: folder / f"{result.table}.{end}" for end in ("json", "md", "csv", "tex")}
    result.save(files["json"])
    files["md"].write_text(to_markdown(result), encoding="utf-8")
    files["csv"].write_text(to_csv(result), encoding="utf-8")
    files["tex"].write_text(to_latex(result), encoding="utf-8")
    return files


def to_csv(result: TableResult) -> str:
    """A line for each cell: row, metric, paper, ours_mean, ours_sd, n, delta, delta_low, …

    A table that says how the paper trained its rows has backbone, epochs and multi_scale last.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("ours_mean", "ours_sd", "n", "delta", "delta_low", "delta_high", "base", "status")
    noise = ("delta_sd", "band_low", "band_high", "inside_noise")
    settings = ("backbone", "epochs", "multi_scale") if has_settings(result) else ()
    writer.writerow(["row", "metric", "paper", *names, *noise, *settings])
    for row in result.rows:
        for column in result.columns:
            ours = row.ours.get(column, Measured(mean=None))
            delta = row.delta.get(column, Difference(mean=None, ci95=None, base=""))
            low, high = delta.ci95 or (None, None)
            numbers = [ours.mean, ours.sd, ours.n, delta.mean, low, high]
            band = [delta.sd, *(delta.band95 or (None, None))]
            paper = row.paper.get(column)
            cells = [row.name, column, paper, *_rounded(numbers), delta.base, row.status]
            cells += [*_rounded(band), _truth(delta.inside_noise)]
            own = {} if row.setting is None else row.setting.model_dump()
            writer.writerow([*cells, *(_plain(own.get(name)) for name in settings)])
    return out.getvalue()


def to_latex(result: TableResult) -> str:
    """A ``tabular`` for booktabs, ready to be put into a ``table``; a comment has the caption."""
    settings = SETTING if has_settings(result) else ()
    heads = " & ".join([*settings, *(_heading(c) for c in result.columns)])
    width = 2 + len(settings) + len(result.columns)
    lines = [
        rf"% {result.table}, profile {result.profile}, commit {result.provenance.get('commit')}",
        f"% {explain(result)}",
        rf"\begin{{tabular}}{{ll{'r' * (width - 2)}}}",
        r"\toprule",
        rf" & & {heads} \\",
    ]
    group = None
    for row in result.rows:
        lines.append(r"\midrule")
        if row.group != group:
            group = row.group
            lines += [rf"\multicolumn{{{width}}}{{l}}{{{_escape(group or '')}}} \\", r"\midrule"]
        for i, (source, cells) in enumerate(row_lines(row)):
            name = _escape(row.name) if i == 0 else ""
            trained = (setting_cells(row) if i == 0 else [""] * len(settings)) if settings else []
            values = " & ".join(_escape(c) for c in (*trained, *map(cells, result.columns)))
            lines.append(rf"{name} & {_escape(source)} & {values} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [round(v, 4) if isinstance(v, float) else v for v in values]


def _truth(value: bool | None) -> str:
    return "" if value is None else str(value).lower()


def _plain(value: Any) -> Any:
    return _truth(value) if isinstance(value, bool) else value


def _heading(column: str) -> str:
    text = heading(column)
    for plain, low in (("₅₀", "{50}"), ("₇₅", "{75}"), ("_S", "S"), ("_M", "M"), ("_L", "L")):
        text = text.replace(plain, f"$_{low}$")
    return text


#: What LaTeX does not print as it is.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%_#"},
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "Δ": r"$\Delta$",
        "−": "$-$",
        "✓": r"$\checkmark$",
        NOTHING: "--",
        NOISE: r"$\approx$",
    }
)


def _escape(text: str) -> str:
    return text.translate(_LATEX)
