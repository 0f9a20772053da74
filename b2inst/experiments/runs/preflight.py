"""Errors that are found before hours of training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from b2inst.data import CocoIndex
from b2inst.data.check import missing_classes
from b2inst.evaluation.average_precision import warn_of_limit
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.runner import build_model, start_weights
from b2inst.experiments.specs.data_spec import CocoData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.inference import resolve_device
from b2inst.training.logs import check_logger


def check_plan(
    specs: Iterable[RunSpec],
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
    *,
    progress: bool = False,
) -> None:
    """Check data, models and devices of runs that are about to begin, and warn of what is odd."""
    specs = list(specs)
    resolve_device(machine.device)
    if machine.logger is not None:
        check_logger(machine.logger)
    processes = machine.devices * machine.machines
    for size in (spec.schedule.batch_size for spec in specs):
        if size % processes:
            raise SpecError(
                f"schedule.batch_size {size} is not divisible by {processes} devices; choose "
                "another number of devices"
            )
    data = specs[0].data
    used: dict[SplitName, None] = {"train": None, split: None}
    used |= {"val": None} if any(spec.schedule.eval_every for spec in specs) else {}
    parts = {
        part: load_split(data, part, workspace.data, verify=True, progress=progress)
        for part in used
    }
    lines = _warnings({data.split_label(part): index for part, index in parts.items()})
    if isinstance(data, CocoData):  # scenes have all classes, but for a handful of images
        counts = {data.split_label(part): parts[part].class_counts() for part in used}
        lines += missing_classes(counts)
    for line in lines:
        warnings.warn(line, stacklevel=3)
    most = max(spec.max_detections for spec in specs)
    warn_of_limit(load_ground_truth(parts[split]), max_detections=most)
    models = {repr((spec.model, spec.options, spec.start)): spec for spec in specs}
    for spec in models.values():
        start_weights(build_model(spec, class_names=parts["train"].class_names), spec)


def _warnings(parts: dict[str, CocoIndex]) -> list[str]:
    """What is read in another way than written; all parts must have the same classes."""
    first, *others = parts
    for label in others:
        if parts[label].class_names != parts[first].class_names:
            raise SpecError(
                f"split {label} has other categories than {first}; give both the same list of "
                "categories"
            )
    lines = []
    for index in parts.values():
        lines += index.notes
        if index.skipped:
            lines.append("\n".join([f"skipped entries ({len(index.skipped)}):", *index.skipped]))
    return lines
