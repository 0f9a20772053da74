"""``b2inst figures``."""

from __future__ import annotations

from typing import Annotated

import typer

from b2inst.cli.options import (
    CrowdsAsInstancesOption,
    DataOption,
    ProfileOption,
    SkipBadOption,
    TrainSplitOption,
    ValFractionOption,
    ValSplitOption,
    coco_data,
    parse_seeds,
)


def figures(
    profile: ProfileOption = "tiny",
    seeds: Annotated[
        str, typer.Option("--seeds", help="The first that is there is drawn; all are counted.")
    ] = "0",
    data: DataOption = None,
    train_split: TrainSplitOption = None,
    val_split: ValSplitOption = None,
    val_fraction: ValFractionOption = None,
    skip_bad: SkipBadOption = False,
    crowds_as_instances: CrowdsAsInstancesOption = False,
) -> None:
    """Draw the paper's figures from its tables' models, as PDF and PNG.

    Give the options of data that the tables were made with.
    """
    from b2inst.experiments import Workspace
    from b2inst.viz.paper import Material, make_figures

    workspace = Workspace.here()
    material = Material.of(
        profile,
        seeds=parse_seeds(seeds) or (0,),
        data=coco_data(
            data,
            train=train_split,
            val=val_split,
            skip_bad=skip_bad,
            crowds_as_instances=crowds_as_instances,
            val_fraction=val_fraction,
        ),
        workspace=workspace,
    )
    for saved in make_figures(material):
        typer.echo(
            f"{saved.name}: not drawn; {saved.caption}"
            if saved.path is None
            else f"{workspace.shown(saved.path)} and .pdf"
        )
