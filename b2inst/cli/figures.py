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
        str, typer.Option("--seeds", help="Seeds; the first that was run is shown.")
    ] = "0",
    data: DataOption = None,
    train_split: TrainSplitOption = None,
    val_split: ValSplitOption = None,
    val_fraction: ValFractionOption = None,
    skip_bad: SkipBadOption = False,
    crowds_as_instances: CrowdsAsInstancesOption = False,
) -> None:
    """Draw the paper's figures from its tables' models, as PDF and PNG.

    It trains nothing: before it begins it lists what it leaves out, with the table to run first.

    Give the options of data that the tables were made with.
    """
    from b2inst.experiments import Workspace
    from b2inst.viz.paper import TrainedModels, missing_models, save_all

    workspace = Workspace.here()
    models = TrainedModels.load(
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
    for why, names in missing_models(models).items():
        typer.echo(f"left out: {', '.join(names)}; {why}")
    for saved in save_all(models):
        if saved.path is not None:
            typer.echo(f"{workspace.shown(saved.path)} and .pdf")
