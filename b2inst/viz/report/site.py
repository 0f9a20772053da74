"""The pages: ``index.html`` beside the results, and ``report/`` with the runs and the style."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.workspace import Workspace
from b2inst.viz.report.contents import Contents, read_contents
from b2inst.viz.report.views import (
    RUNS_PAGE,
    benchmark_view,
    file_view,
    picture_view,
    row_views,
    run_views,
    table_view,
)

_STYLE = "report/style.css"


def make_report(profile: str, workspace: Workspace, *, published: bool = False) -> Path:
    """Write the site of a profile's results; all links are relative and lead to what is there.

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
    contents = read_contents(folder)
    environment = Environment(
        loader=PackageLoader("b2inst.viz.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    common: dict[str, Any] = {"profile": profile, "description": _description(profile, workspace)}
    pages = {
        "index.html": ("index.html.jinja", index_view(contents, workspace)),
        RUNS_PAGE: (
            "runs.html.jinja",
            {
                "tables": [row_views(table, contents) for table in contents.tables],
                "runs": run_views(contents),
            },
        ),
        _STYLE: ("style.css", {}),
    }
    for name, (template, view) in pages.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        text = environment.get_template(template).render(**common, **view)
        path.write_text(text.rstrip() + "\n", encoding="utf-8")
    return folder / "index.html"


def index_view(contents: Contents, workspace: Workspace) -> dict[str, Any]:
    """What the first page shows."""
    folder = contents.folder
    names = {table.result.table for table in contents.tables}
    specs = sorted((workspace.root / "experiments").glob("*.yaml"))
    return {
        "tables": [table_view(table, contents) for table in contents.tables],
        "not_run": [path.stem for path in specs if path.stem not in names],
        "figures": [picture_view(picture, folder) for picture in contents.figures],
        "missing_figures": contents.missing_figures,
        "benchmarks": [benchmark_view(one, contents) for one in contents.benchmarks],
        "pictures": [picture_view(picture, folder) for picture in contents.pictures],
        "files": [file_view(path, folder, "") for path in contents.files],
        "run_count": len(contents.runs),
        "runs_page": RUNS_PAGE,
    }


def prose(text: str) -> Markup:
    """Text as HTML, what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _description(profile: str, workspace: Workspace) -> str:
    """The profile's own, where it still is one."""
    try:
        return load_profile(profile, workspace=workspace).description
    except SpecError:
        return ""
