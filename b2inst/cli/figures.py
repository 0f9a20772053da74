"""``b2inst figures``."""

from __future__ import annotations

from typing import Annotated

import typer

from b2inst.cli.options import DataOption, ProfileOption, coco_data, parse_seeds


def figures(
    profile: ProfileOption = "tiny",
    seeds: Annotated[
        str, typer.Option("--seeds", help="The first that is there is drawn; all are counted.")
    ] = "0",
    data: DataOption = None,
) -> None:
    """Draw the paper's figures from the models of its tables, as PDF and PNG."""
    from b2inst.experiments import Workspace
    from b2inst.viz.paper import Material, make_figures

    workspace = Workspace.here()
    material = Material.of(
        profile,
        seeds=parse_seeds(seeds) or (0,),
        data=coco_data(data),
        workspace=workspace,
    )
    for saved in make_figures(material):
        typer.echo(
            f"{saved.name}: not drawn; {saved.caption}"
            if saved.path is None
            else f"{workspace.shown(saved.path)} and .pdf"
        )
