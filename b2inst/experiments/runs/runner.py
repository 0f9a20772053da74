"""Train, predict and evaluate one run, resuming where it stopped."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from b2inst.data import CocoIndex
from b2inst.data.wording import counted
from b2inst.evaluation import read_predictions, write_predictions
from b2inst.evaluation.inference import check_classes
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import load_split, prepare, training_set
from b2inst.experiments.runs.measuring import early_evaluation, evaluation_settings, measure
from b2inst.experiments.runs.provenance import recorded
from b2inst.experiments.runs.store import Run, RunStatus, open_run, write_arrays, write_json
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.inference import resolve_device
from b2inst.models import Segmenter, create_model
from b2inst.ops.distributed import from_rank_zero
from b2inst.training import train
from b2inst.training.devices import World, join, leave
from b2inst.weights import load_model, start_from
from b2inst.weights.start import Start


def run(
    spec: RunSpec,
    workspace: Workspace,
    *,
    split: SplitName | None = None,
    machine: Resources | None = None,
    progress: bool = True,
) -> Run:
    """Train, predict and evaluate what is missing of a run.

    Processes that torchrun or srun started share the work; that of rank 0 writes the files.

    Args:
        spec: What to run; its data must be prepared (``datasets.prepare``).
        workspace: Where all files are.
        split: The split to evaluate on (default: the data's ``report_split``).
        machine: Batches, loading processes, device; ``jobs`` has no effect.
        progress: Show progress bars.

    Raises:
        RunError: Another process works on the run.
        SpecError: The model cannot be built as the spec says.
        KeyboardInterrupt: Stopped; a later call resumes.
    """
    machine, chosen = (machine or Resources()).settled(), split or spec.data.report_split
    current = open_run(workspace.runs, spec)
    session = _Session(spec, current, workspace, machine, join(device=machine.device), progress)
    with ExitStack() as held:
        held.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(machine.threads or 1)
        from_rank_zero(lambda: held.enter_context(current.locked()))
        if from_rank_zero(lambda: current.status is not RunStatus.TRAINED):
            warn_of_stale({spec.model: current})
            session.train()
        if from_rank_zero(lambda: not is_complete(current, spec, chosen)):
            session.evaluate(chosen)
    return current


def is_complete(run: Run, spec: RunSpec, split: SplitName) -> bool:
    """Return whether the run is trained, and evaluated on the split as the current code would."""
    label = spec.data.split_label(split)
    metrics = run.metrics(label) or {}
    same = all(metrics.get(k) == value for k, value in evaluation_settings(spec).items())
    return run.status is RunStatus.TRAINED and same and _is_current(run, label)


def _is_current(run: Run, label: str) -> bool:
    """Whether the predictions for a split were made by this version of the code."""
    version = run.provenance().get("predictions", {}).get(label, 1)  # the first was not recorded
    return bool(version == code_version.PREDICTION)


def is_stale(run: Run) -> bool:
    """Return whether the run was trained by another version of the training code."""
    then = run.provenance().get("code", {}).get("training")
    return then is not None and then != code_version.TRAINING


def warn_of_stale(runs: Mapping[str, Run]) -> None:
    """Warn of runs, by their labels, that were trained by another version of the code."""
    stale = [f"{label} ({run.hash})" for label, run in runs.items() if is_stale(run)]
    if stale:
        warnings.warn(
            f"{len(stale)} of {counted(len(runs), 'run')}: trained by another version of the code, "
            f"may differ from what it gives now: {', '.join(stale)}. The training code is at "
            f"version {code_version.TRAINING}; retrain them with `b2inst table --rerun`",
            stacklevel=2,
        )


def build_model(spec: RunSpec, *, class_names: tuple[str, ...]) -> Segmenter:
    """Build the untrained model of a run, with initial weights drawn from the run's seed.

    Raises:
        SpecError: There is no such model, or it does not take these options.
    """
    if of_data := spec.options.keys() & {"name", "num_classes", "class_names"}:
        named = ", ".join(sorted(of_data))
        raise SpecError(f"{spec.row or spec.model}: options: leave out {named}, as the data decide")
    torch.manual_seed(spec.seed)
    options: dict[str, Any] = {**spec.options, "class_names": class_names}
    try:
        return create_model(spec.model, num_classes=len(class_names), **options)
    except ValueError as error:
        prefix = "" if spec.model in str(error) else f"{spec.model}: "
        raise SpecError(f"{prefix}{error}") from error


def start_weights(model: Segmenter, spec: RunSpec) -> Start | None:
    """Load the weights that a run starts from into its model, if there are any."""
    return None if spec.start is None else start_from(model, spec.start.unchanged())


@dataclass(frozen=True)
class _Session:
    """One call of ``run`` in one of its processes."""

    spec: RunSpec
    run: Run
    workspace: Workspace
    machine: Resources
    world: World
    progress: bool

    def train(self) -> None:
        spec, run, machine = self.spec, self.run, self.machine
        index = self._load("train").annotated()
        model = build_model(spec, class_names=index.class_names)
        started = start_weights(model, spec)
        # Its intervals are not in the run's hash, but resuming needs those it was begun with.
        schedule = from_rank_zero(lambda: run.begin(spec)).schedule
        schedule = schedule.model_copy(update={"eval_every": spec.schedule.eval_every})
        evaluation = None
        if schedule.eval_every:
            evaluation = early_evaluation(spec, self._load("val"), batch=machine.batch)
        if started is not None and self.progress and self.world.rank == 0:
            tqdm.write(str(started))
        images = training_set(index, spec.augmentation, fixed_size=model.preprocessor.fixed_size)
        facts = self._data_facts("train", index) | {
            "spec_hash": spec.hash,
            "seed": spec.seed,
            "parameters": sum(p.numel() for p in model.parameters()),
            "processes": self.world.processes,
        }
        if self.world.processes > 1:
            facts |= {"machines": self.world.machines, "backend": dist.get_backend()}
        if spec.start is not None and started is not None:
            facts["start"] = {"sha256": spec.start.sha256, **started.counts()}
        with self._recorded("train", facts):
            train(
                model,
                images,
                schedule=schedule,
                seed=spec.seed,
                out=run.folder,
                device=machine.device,
                precision=spec.precision,
                num_workers=machine.workers,
                recompute=machine.recompute,
                logger=machine.logger,
                evaluate=evaluation,
                progress=self.progress,
            )

    def evaluate(self, split: SplitName) -> None:
        spec, run, label = self.spec, self.run, self.spec.data.split_label(split)
        index, predictions = self._predict(split)
        tuned_on = spec.data.tuning_split(split)
        tuned = None if tuned_on is None else self._predict(tuned_on)
        leave()  # measuring takes a while, and one process
        if self.world.rank > 0:
            return
        with self._recorded(f"evaluate {label}", {}):
            tuning = None if tuned is None else (read_predictions(tuned[1]), tuned[0])
            measured = measure(read_predictions(predictions), index, spec, tuning=tuning)
            write_arrays(run.resampled_path(label), measured.resampled)
        content = {"split": label, "images": len(index), **measured.facts}
        content |= evaluation_settings(spec) | {"metrics": measured.metrics}
        write_json(run.metrics_path(label), content)

    def _predict(self, split: SplitName) -> tuple[CocoIndex, Path]:
        """A split, and the run's predictions for it, which are written if they are missing."""
        index, label = self._load(split), self.spec.data.split_label(split)
        path = self.run.predictions_path(label)
        if from_rank_zero(lambda: not (path.is_file() and _is_current(self.run, label))):
            model = from_rank_zero(lambda: load_model(self.run.model_path))
            model.to(resolve_device(self.machine.device))
            check_classes(model, index)
            for old in (path, self.run.metrics_path(label)):  # of another version
                from_rank_zero(partial(old.unlink, missing_ok=True))
            facts = self._data_facts(split, index)
            versions = self.run.provenance().get("predictions", {})
            facts["predictions"] = versions | {label: code_version.PREDICTION}
            with self._recorded(f"predict {label}", facts):
                batch, progress = self.machine.batch, self.progress
                write_predictions(model, index, path, batch_size=batch, progress=progress)
        return index, path

    def _load(self, split: SplitName) -> CocoIndex:
        data = from_rank_zero(lambda: prepare(self.spec.data, self.workspace.data))
        return load_split(data, split, self.workspace.data)

    def _recorded(self, step: str, facts: dict[str, Any]) -> AbstractContextManager[None]:
        return recorded(self.run, step, facts) if self.world.rank == 0 else nullcontext()

    def _data_facts(self, split: str, index: CocoIndex) -> dict[str, Any]:
        facts = {
            "fingerprint": index.fingerprint,
            "images": len(index),
            "annotations": sum(map(len, index.annotations.values())),
            "classes": len(index.class_names),
            "skipped": index.skipped,
        }
        return {"data": {**self.run.provenance().get("data", {}), split: facts}}
