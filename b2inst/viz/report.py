"""One page of all results of a profile: an index of its executed notebooks, tables and figures."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from b2inst.experiments.runs.store import read_json
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.notebook import to_html
from b2inst.experiments.tables.rendering import explain, summary, to_frame
from b2inst.experiments.tables.table_result import NOTHING, TableResult

#: What the pictures that tables and measurements have beside them show.
_CAPTIONS = {
    "designs": "The models of the rows, drawn from what flows through them.",
    "curves": "Training curves: a panel a loss, a colour a row, a line a seed.",
    "calibration": "Predicted against true mask quality; on the diagonal a scoring head is right.",
    "contrasts": "Questions, each the difference of two rows; hollow where zero is in its band.",
    "forming": "Masks as they form: those that the steps improve most, at the median, and least.",
    "qualitative": "Ground truth and what models predict; images chosen by rule.",
    "boundaries": "The boundary that each row predicts, beside the target.",
    "boundary_targets": "The boundary target at several strides, on scenes and photographs.",
}


def make_report(profile: str, workspace: Workspace, *, published: bool = False) -> Path:
    """Write the index of a profile's results; all links are relative and lead to what is there.

    An executed notebook without its page gets it. Neither loads anything from elsewhere.

    Args:
        profile: name of a profile, the folder below ``results/local/``.
        published: of the published results, below ``results/``, instead of this machine's.

    Returns:
        ``results/local/<profile>/index.html``.

    Raises:
        RunError: the profile has no results yet.
        SpecError: a table is of another version of the package.
    """
    folder = (workspace.published if published else workspace.results) / profile
    if not folder.is_dir():
        raise RunError(
            f"{workspace.shown(folder)}: no results yet; make some with `make table1 "
            f"PROFILE={profile}`"
        )
    for notebook in sorted(folder.glob("*/*.ipynb")):
        if not notebook.with_suffix(".html").is_file():
            to_html(notebook)
    records = {path.stem: path for path in sorted(folder.glob("**/runs/*.json"))}
    paths = sorted(filter(_is_table, folder.glob("*/*.json")), key=_papers_first)
    tables = [_table(path, folder, records) for path in paths]
    made = {path.stem for path in paths}
    content = {
        "profile": profile,
        "description": _description(profile, workspace),
        "tables": tables,
        "not_run": [f"table{n}" for n in range(1, 5) if f"table{n}" not in made],
        "figures": _figures(folder),
        "benchmarks": _benchmarks(folder),
        "pictures": [_picture(path, folder) for path in sorted(folder.glob("*.png"))],
        "files": [_relative(path, folder) for path in sorted(folder.glob("*.json"))],
    }
    environment = Environment(
        loader=PackageLoader("b2inst.viz"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    page = folder / "index.html"
    text = environment.get_template("report.html.jinja").render(content)
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
    return page


def _is_table(path: Path) -> bool:
    """``<table>/<table>.json``, or of another split or time in ``<table>-…/``."""
    return f"{path.parent.name}-".startswith(f"{path.stem}-") and "rows" in read_json(path)


def _papers_first(path: Path) -> tuple[bool, str]:
    return not path.stem.startswith("table"), path.parent.name


def _table(path: Path, folder: Path, records: dict[str, Path]) -> dict[str, Any]:
    """A table: the summary with links to each row's runs, all its columns, what lies beside it."""
    result = TableResult.load(path)
    beside = [p for p in sorted(path.parent.iterdir()) if p.is_file()]
    (head, *lines), rows = summary(result), {row.name: row for row in result.rows}
    for line in lines:
        runs = rows[line[0]].runs if line[0] in rows else []
        line.append(Markup(" ").join(_run_link(name, records, folder) for name in runs))
    short = pd.DataFrame(lines, columns=[*head, "runs by seed"])
    first = [c for c in ("AP", "boundary AP") if c in (every := to_frame(result)).columns]
    every = every[[*first, *every.columns.difference(first, sort=False)]]
    return {
        "name": re.sub(r"^table(\d+)$", r"Table \1", path.parent.name),
        "id": path.parent.name,
        "title": result.provenance.get("title", ""),
        "source": result.provenance.get("source", ""),
        "summary": _html(short.loc[:, (short != NOTHING).any()]),
        "every": _html(every, index=True),
        "runs": _html(_runs(result, records, folder)),
        "explained": explain(result),
        "notebooks": [_relative(p, folder) for p in beside if p.suffix == ".html"],
        "pictures": [_picture(p, folder) for p in beside if p.suffix == ".png"],
        "files": [_relative(p, folder) for p in beside if p.suffix not in (".png", ".html")],
    }


def _runs(result: TableResult, records: dict[str, Path], folder: Path) -> pd.DataFrame:
    """A line a run: what it measured, and where that comes from."""
    lines = []
    for row in result.rows:
        for name in (name for name in row.runs if name in records):
            record = read_json(records[name])
            facts = record.get("provenance", {})
            metrics = (record.get("evaluation") or {}).get("metrics") or {}
            steps = facts.get("steps", {}).values()
            dirty = " with local changes" if facts.get("dirty") else ""
            lines.append(
                {
                    "run": _run_link(name, records, folder),
                    "row": row.name,
                    "AP": metrics.get("AP"),
                    "boundary AP": metrics.get("boundary_AP"),
                    "commit": f"{(facts.get('commit') or '–')[:12]}{dirty}",
                    "data": ", ".join(
                        f"{split} {of['fingerprint'][:12]}"
                        for split, of in facts.get("data", {}).items()
                    ),
                    "machine": facts.get("cpu") or facts.get("device"),
                    "minutes": sum(step["wall_seconds"] for step in steps) / 60,
                    "GB": max((step.get("peak_memory_mb") or 0 for step in steps), default=0) / 1e3,
                    "versions": ", ".join(
                        f"{package} {number}"
                        for package, number in facts.get("versions", {}).items()
                    ),
                }
            )
    return pd.DataFrame(lines)


def _run_link(name: str, records: dict[str, Path], folder: Path) -> Markup:
    """The seed of a run, leading to its record; its hash where that is not here."""
    if name not in records:
        return Markup("<code>{}</code>").format(name)
    seed = read_json(records[name])["spec"].get("seed")
    link = Markup('<a href="{}" title="run {}">{}</a>')
    return link.format(_relative(records[name], folder), name, seed)


def _figures(folder: Path) -> list[dict[str, Any]]:
    """The paper's, with their captions, in the order of ``figures.json``; or why one is missing."""
    index = folder / "figures/figures.json"
    listed = {f["name"]: f for f in read_json(index)["figures"]} if index.is_file() else {}
    paths = {path.stem: path for path in sorted(index.parent.glob("*.png"))}
    return [
        _picture(paths[name], folder, listed.get(name, {}).get("caption"))
        if name in paths
        else {"name": name, "missing": listed[name].get("missing", "not drawn")}
        for name in [*listed, *(name for name in paths if name not in listed)]
    ]


def _picture(path: Path, folder: Path, caption: str | None = None) -> dict[str, Any]:
    """A picture; its alternative text is the first sentence of the caption."""
    caption = caption or _CAPTIONS.get(path.stem, path.stem.replace("_", " ").capitalize())
    pdf = path.with_suffix(".pdf")
    return {
        "src": _relative(path, folder),
        "alt": re.split(r"(?<=[.;:])\s", caption, maxsplit=1)[0].rstrip(".;:"),
        "caption": caption,
        "pdf": _relative(pdf, folder) if pdf.is_file() else None,
    }


def _benchmarks(folder: Path) -> list[dict[str, str]]:
    """What ``b2inst bench --json`` wrote, and the speeds beside tables: a line a model."""
    found = []
    own = [*sorted(folder.glob("*.json")), *sorted(folder.glob("*/speed.json"))]
    for path in [*own, *sorted(folder.parent.glob("*.json"))]:
        content = json.loads(path.read_text(encoding="utf-8"))
        content = content.get("benchmark", content)  # a table's speed.json says more about it
        if not {"speeds", "images"} <= set(content):
            continue
        lines = [
            {
                "model": speed["model"],
                "input": "×".join(map(str, speed["network_size"])),
                "FPS": 1e3 / speed["median_ms"],
                "median ms": speed["median_ms"],
                "p90 ms": speed["p90_ms"],
                **{f"{stage} ms": ms for stage, ms in speed["stages_ms"].items()},
                "parameters (M)": speed["parameters"] / 1e6,
                "GFLOPs": speed["gflops"],
                "peak GB": speed["peak_memory_mb"] / 1e3,
            }
            for speed in content["speeds"]
        ]
        setting = [content.get(key, "") for key in ("image_source", "device", "dtype")]
        found.append(
            {
                "file": _relative(path, folder),
                "setting": f"{content['images']} images, one at a time; "
                + ", ".join(filter(None, setting)),
                "speeds": _html(pd.DataFrame(lines)),
            }
        )
    return found


def _html(frame: pd.DataFrame, *, index: bool = False) -> Markup:
    """A table by pandas, its text escaped."""
    safe = frame.map(lambda cell: escape(cell) if isinstance(cell, str) else cell)
    if index:
        safe.index = safe.index.map(lambda names: tuple(map(escape, names)))
    number = "{:.2f}".format
    text = safe.to_html(escape=False, index=index, border=0, na_rep="–", float_format=number)
    return Markup(text)


def _relative(path: Path, folder: Path) -> str:
    """As a link from the page."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _prose(text: str) -> Markup:
    """Text as HTML, what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _description(profile: str, workspace: Workspace) -> str:
    """The profile's own, where it still is one."""
    try:
        return load_profile(profile, workspace=workspace).description
    except SpecError:
        return ""
