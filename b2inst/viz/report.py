"""One page of all results of a profile: an index of its tables, executed notebooks and figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from b2inst.experiments import RunError, TableResult, Workspace
from b2inst.experiments.runs.store import read_json
from b2inst.experiments.specs.profile import profile_name
from b2inst.experiments.tables.notebook import to_html
from b2inst.experiments.tables.published import comparison
from b2inst.experiments.tables.rendering import explain, summary
from b2inst.experiments.tables.table_result import NOTHING

#: Captions of the pictures beside tables, by file name.
_CAPTIONS = {
    "curves": "Training curves: a panel per loss, a colour per row, a line per seed.",
    "calibration": "Predicted against true mask quality; a calibrated head is on the diagonal.",
    "contrasts": "Questions and differences of two rows; open where the interval contains zero.",
    "designs": "The designs, drawn from the models themselves; the boundary is red.",
    "forming": "Masks as they form: of those that gain most, at the median and least.",
    "qualitative": "Ground truth and predictions; images chosen by rule.",
    "boundaries": "The boundary that each row predicts, beside the target.",
    "boundary_targets": "The boundary target at several strides, on scenes and photographs.",
}


def make_report(profile: str, workspace: Workspace, *, published: bool = False) -> Path:
    """Write the index of a profile's results, whose links are all relative.

    Executed notebooks are converted to HTML where missing, but for published ones, which web pages
    of repositories show as they are. No page loads anything from elsewhere.

    Args:
        profile: Name of a profile, the folder below ``results/local/``, or path of its file.
        workspace: Where the results are.
        published: Whether to use the published results, below ``results/``, instead.

    Returns:
        ``results/local/<profile>/index.html``.

    Raises:
        RunError: The profile has no results yet.
        SpecError: A table is of another version of the package.
    """
    name = profile_name(profile)
    folder = (workspace.published if published else workspace.results) / name
    if not folder.is_dir():
        raise RunError(
            f"{workspace.shown(folder)}: no results yet; make some with `b2inst table table1 "
            f"--profile {profile}`"
        )
    for notebook in [] if published else folder.glob("*/*.ipynb"):
        if not notebook.with_suffix(".html").is_file():
            to_html(notebook)
    # <table>/<table>.json, or of another split or time in <table>-…/
    paths = [
        path
        for path in folder.glob("*/*.json")
        if f"{path.parent.name}-".startswith(f"{path.stem}-") and "rows" in read_json(path)
    ]
    paths.sort(key=lambda path: (not path.stem.startswith("table"), path.parent.name))
    made = {path.stem for path in paths}
    content = {
        "profile": name,
        "named": profile,
        "tables": [_table(path, folder, workspace) for path in paths],
        "not_run": [f"table{n}" for n in range(1, 5) if f"table{n}" not in made],
        "figures": _figures(folder),
        "pictures": [_picture(path) for path in sorted(folder.glob("*.png"))],
        "files": sorted(folder.glob("*.json")),
    }
    environment = Environment(
        loader=PackageLoader("b2inst.viz"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    environment.filters["link"] = lambda path: path.relative_to(folder).as_posix()
    page = folder / "index.html"
    text = environment.get_template("report.html.jinja").render(content)
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
    return page


def _table(path: Path, folder: Path, workspace: Workspace) -> dict[str, Any]:
    """A table's summary with published numbers and links to runs, and the files beside it."""
    result = TableResult.load(path)
    beside = [p for p in sorted(path.parent.iterdir()) if p.is_file()]
    # A table that was made at another time has records of its own beside it.
    records = {
        p.stem: {"record": p, "seed": read_json(p)["spec"].get("seed")}
        for at in (folder, path.parent)
        for p in at.glob("runs/*.json")
    }
    runs = {r.name: [{"name": n, **records.get(n, {})} for n in r.runs] for r in result.rows}
    own = path.parent == workspace.results / result.profile / result.table
    cells, compared = comparison(result, workspace) if own else ([], "")
    published = {row: cell for row, cell, _ in cells}
    head, *lines = [[*line, published.get(line[0], "")] for line in summary(result)]
    shown = [i for i in range(len(head)) if any(line[i] not in ("", NOTHING) for line in lines)]
    return {
        "name": re.sub(r"^table(\d+)$", r"Table \1", path.parent.name),
        "id": path.parent.name,
        "title": result.provenance.get("title", ""),
        "source": result.provenance.get("source", ""),
        "head": [head[i] for i in shown],
        "rows": [([line[i] for i in shown], runs.get(line[0], [])) for line in lines],
        "explained": explain(result),
        "compared": compared,
        "notebooks": [p for p in beside if p.suffix == ".html"],
        "pictures": [_picture(p) for p in beside if p.suffix == ".png"],
        "files": [p for p in beside if p.suffix not in (".png", ".html")],
    }


def _figures(folder: Path) -> list[dict[str, Any]]:
    """The paper's figures, with their captions or why they are missing, as ``figures.json``."""
    index = folder / "figures/figures.json"
    figures = read_json(index)["figures"] if index.is_file() else []
    paths = [index.with_name(f"{figure['name']}.png") for figure in figures]
    return [
        _picture(path, figure["caption"])
        if path.is_file()
        else {"name": figure["name"], "missing": figure.get("missing", "not drawn")}
        for figure, path in zip(figures, paths, strict=True)
    ]


def _picture(path: Path, caption: str | None = None) -> dict[str, Any]:
    """A picture; its alternative text is the first sentence of the caption."""
    caption = caption or _CAPTIONS.get(path.stem, path.stem.replace("_", " ").capitalize())
    pdf = path.with_suffix(".pdf")
    return {
        "src": path,
        "alt": re.split(r"(?<=[.;:])\s", caption, maxsplit=1)[0].rstrip(".;:"),
        "caption": caption,
        "pdf": pdf if pdf.is_file() else None,
    }


def _prose(text: str) -> Markup:
    """Text as HTML, with code in backticks."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
