"""``b2inst report``."""

from __future__ import annotations

from typing import Annotated

import typer

from b2inst.cli.options import ProfileOption


def report(
    profile: ProfileOption = "tiny",
    published: Annotated[
        bool, typer.Option("--published", help="Of the published results; for maintainers.")
    ] = False,
) -> None:
    """Write a page of this machine's results, with their origins.

    Where nothing has been run yet, it names the page of the published results.
    """
    from b2inst.experiments import Workspace
    from b2inst.viz.report import make_report

    workspace = Workspace.here()
    page = workspace.published / profile / "index.html"
    if published or not page.is_file() or (workspace.results / profile).is_dir():
        page = make_report(profile, workspace, published=published)
    typer.echo(f"{workspace.shown(page)}: open it in a browser")
