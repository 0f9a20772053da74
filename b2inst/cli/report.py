"""``b2inst report``."""

from __future__ import annotations

import typer

from b2inst.cli.options import ProfileOption


def report(profile: ProfileOption = "tiny") -> None:
    """Write a page that shows all results of a profile, and where each number comes from."""
    from b2inst.experiments import Workspace
    from b2inst.viz.report import make_report

    workspace = Workspace.here()
    page = make_report(profile, workspace)
    typer.echo(f"{workspace.shown(page)}: open it in a browser")
