"""One run, from wherever it stands to its metrics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from b2inst.data import CocoIndex
from b2inst.evaluation import read_predictions, write_predictions
from b2inst.evaluation.inference import check_classes
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import load_split, prepare, training_set
from b2inst.experiments.runs.early_look import early_look, looked_at
from b2inst.experiments.runs.measuring import evaluation_settings, measure
from b2inst.experiments.runs.provenance import recorded
from b2inst.experiments.runs.store import (
    Run,
    RunStatus,
    check_space,
    disk_need,
    open_run,
    write_arrays,
    write_json,
)
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.inference import resolve_device
from b2inst.models import Segmenter, create_model
from b2inst.ops.distributed import from_first
from b2inst.training import train
from b2inst.training.devices import World, join, leave
from b2inst.weights import load_model, start_from
from b2inst.weights.start import Start

#: Training sets that are no larger than this when decoded are kept in memory.
_CACHED_BYTES = 500e6


class StaleRunWarning(UserWarning):
    """A stored run was made by code that is not today's."""


def run(
    spec: RunSpec,
    workspace: Workspace,
    *,
    split: SplitName | None = None,
    machine: Resources | None = None,
    progress: bool = True,
) -> Run:
    """Train, predict and evaluate whatever of it is missing.

    Processes that torchrun or srun started together do it as one: the first alone holds the run
    and reads and writes its files, the others return when there is nothing left to share.

    Args:
        spec: what to run; its data must be prepared (``datasets.prepare``).
        split: evaluated on this one (default: the data's ``report_split``).
        machine: batches, loading processes, device; a run is one job whatever ``jobs`` says.

    Raises:
        RunError: the run is in another process's hands, or the disk is full.
        SpecError: the model cannot be built as the spec says.
        KeyboardInterrupt: stopped; a later call continues.
    """
    machine, part = (machine or Resources()).settled(), split or spec.data.report_split
    current = open_run(workspace.runs, spec)
    world = join(device=machine.device)
    with ExitStack() as held:
        held.callback(torch.set_num_threads, torch.get_num_threads())
        assert machine.threads is not None
        torch.set_num_threads(machine.threads)
        from_first(lambda: held.enter_context(current.locked()))
        if from_first(lambda: current.status is not RunStatus.TRAINED):
            warn_of_stale({spec.model: current})
            _train(spec, current, workspace, machine, world, progress=progress)
        if from_first(lambda: needs_evaluation(current, spec, part)):
            _evaluate(spec, current, workspace, part, machine, world, progress=progress)
    return current


def is_complete(run: Run, spec: RunSpec, split: SplitName) -> bool:
    """Whether nothing of the run is missing."""
    return run.status is RunStatus.TRAINED and not needs_evaluation(run, spec, split)


def needs_evaluation(run: Run, spec: RunSpec, split: SplitName) -> bool:
    """Whether metrics are missing, or not measured as today: which, by what code, in what bins."""
    metrics = run.metrics(spec.data.split_label(split))
    return metrics is None or any(
        metrics.get(key) != value for key, value in evaluation_settings(spec, split).items()
    )


def is_stale(run: Run) -> bool:
    """Whether the run was trained by another version of the training code."""
    then = run.provenance().get("code", {}).get("training")
    return then is not None and then != code_version.TRAINING


def warn_of_stale(runs: Mapping[str, Run]) -> None:
    """Warn of runs that were trained by another version of the code, named by their labels."""
    stale = [f"{label} ({run.hash})" for label, run in runs.items() if is_stale(run)]
    if stale:
        warnings.warn(
            f"{len(stale)} of {len(runs)} runs were trained by another version of the code and may "
            f"differ from what it gives now: {', '.join(stale)}. The training code is at version "
            f"{code_version.TRAINING}; retrain them with --rerun",
            StaleRunWarning,
            stacklevel=2,
        )


def build_model(spec: RunSpec, *, class_names: tuple[str, ...]) -> Segmenter:
    """The untrained model of a run, its initial weights drawn from the run's seed.

    Raises:
        SpecError: if there is no such model, or it does not take these options.
    """
    torch.manual_seed(spec.seed)
    options: dict[str, Any] = dict(spec.options)
    try:
        return create_model(
            spec.model, num_classes=len(class_names), class_names=class_names, **options
        )
    except ValueError as error:
        prefix = "" if spec.model in str(error) else f"{spec.model}: "
        raise SpecError(f"{prefix}{error}") from error


def start_weights(model: Segmenter, spec: RunSpec) -> Start | None:
    """Put the weights that a run starts from into its model; None where there are none.

    Raises:
        SpecError: the file is gone or another one. WeightsError: it does not fit.
    """
    return None if spec.start is None else start_from(model, spec.start.unchanged())


def _train(
    spec: RunSpec,
    run: Run,
    workspace: Workspace,
    machine: Resources,
    world: World,
    *,
    progress: bool,
) -> None:
    first = world.rank == 0
    data = from_first(lambda: prepare(spec.data, workspace.data))
    index = load_split(data, "train", workspace.data).annotated()
    model = build_model(spec, class_names=index.class_names)
    started = start_weights(model, spec)
    from_first(lambda: check_space(run.folder, disk_need(model)))
    decoded = sum(
        image.height * image.width * (4 + len(index.annotations[image.id]))
        for image in index.images
    )
    dataset = training_set(
        index,
        spec.augmentation,
        cache=decoded <= _CACHED_BYTES,
        fixed_size=model.preprocessor.fixed_size,
    )
    # As it was begun: how often a run logs is no part of what it is, but of its checkpoint.
    schedule = from_first(lambda: run.begin(spec)).schedule
    schedule = schedule.model_copy(update={"eval_every": spec.schedule.eval_every})
    look = None
    if schedule.eval_every:
        seen = looked_at(load_split(data, "val", workspace.data))
        check_classes(model, seen)
        look = early_look(spec, seen, batch=machine.batch)
    facts = {
        "spec_hash": spec.hash,
        "seed": spec.seed,
        "data": {**run.provenance().get("data", {}), "train": _describe(index)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "processes": world.processes,
    }
    if world.processes > 1:
        facts |= {"machines": world.machines, "backend": dist.get_backend()}
    if spec.start is not None and started is not None:
        facts["start"] = {"sha256": spec.start.sha256, **started.counts()}
        if progress and first:
            tqdm.write(str(started))
    with recorded(run, "train", facts) if first else nullcontext():
        train(
            model,
            dataset,
            schedule=schedule,
            seed=spec.seed,
            out=run.folder,
            device=machine.device,
            precision=spec.precision,
            num_workers=machine.workers,
            recompute=machine.recompute,
            logger=machine.logger,
            evaluate=look,
            progress=progress,
        )
    if first and not run.model_path.is_file():
        raise RunError(f"{run.model_path}: missing after training; rerun")


def _evaluate(
    spec: RunSpec,
    run: Run,
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
    world: World,
    *,
    progress: bool,
) -> None:
    data = from_first(lambda: prepare(spec.data, workspace.data))
    tuned_on = spec.data.tuning_split(split)
    found = {
        part: _predicted(
            spec, run, load_split(data, part, workspace.data), part, machine, world, progress
        )
        for part in (split, tuned_on)
        if part is not None
    }
    leave()  # measuring takes a while, and one process
    if world.rank > 0:
        return
    label = spec.data.split_label(split)
    index, predictions = found[split]
    with recorded(run, f"evaluate {label}", {}):
        tuning = None
        if tuned_on is not None:
            truth, others = found[tuned_on]
            tuning = (read_predictions(others), truth)
        measured = measure(read_predictions(predictions), index, spec, tuning=tuning)
        write_arrays(run.resampled_path(label), measured.resampled)
    write_json(
        run.metrics_path(label),
        {
            "split": label,
            "images": len(index.images),
            **measured.facts,
            **evaluation_settings(spec, split),
            "metrics": measured.metrics,
        },
    )


def _predicted(
    spec: RunSpec,
    run: Run,
    index: CocoIndex,
    split: SplitName,
    machine: Resources,
    world: World,
    progress: bool,
) -> tuple[CocoIndex, Path]:
    """A split, and the file of the run's predictions for it, which is written if it is missing."""
    label = spec.data.split_label(split)
    path = run.predictions_path(label)
    if from_first(lambda: not path.is_file()):
        model = from_first(lambda: load_model(run.model_path))
        model.to(resolve_device(machine.device))
        check_classes(model, index)
        facts = {"data": {**run.provenance().get("data", {}), split: _describe(index)}}
        with recorded(run, f"predict {label}", facts) if world.rank == 0 else nullcontext():
            write_predictions(model, index, path, batch_size=machine.batch, progress=progress)
    return index, path


def _describe(index: CocoIndex) -> dict[str, Any]:
    return {
        "fingerprint": index.fingerprint,
        "images": len(index.images),
        "annotations": sum(map(len, index.annotations.values())),
        "classes": len(index.class_names),
        "skipped": index.skipped,
    }
