"""Errors that are found before hours of training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from b2inst.data import CocoIndex
from b2inst.data.check import missing_classes
from b2inst.data.wording import folded
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
    specs: Sequence[RunSpec],
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
    *,
    progress: bool = False,
) -> None:
    """Check data, models and devices of runs that are about to begin, and warn of what is odd."""
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
    data, looks = specs[0].data, any(spec.schedule.eval_every for spec in specs)
    lines: list[str] = []
    parts: dict[str, CocoIndex] = {}
    for part in dict.fromkeys(("train", split, "val") if looks else ("train", split)):
        index = load_split(data, part, workspace.data, verify=True, progress=progress)
        parts[data.split_label(part)] = index
        lines += index.notes
        if index.skipped:
            skipped = [f"skipped entries ({len(index.skipped)}):", *folded(index.skipped)]
            lines.append("\n".join(skipped))
    train = parts[data.split_label("train")]
    for label, index in parts.items():
        if index.class_names != train.class_names:
            raise SpecError(
                f"split {label} has other categories than {data.split_label('train')}; give both "
                "the same list of categories"
            )
    if isinstance(data, CocoData):  # scenes have all classes, but for a handful of images
        lines += missing_classes({label: index.class_counts() for label, index in parts.items()})
    plans = {(spec.schedule.warmup_iterations, spec.schedule.iterations) for spec in specs}
    lines += [
        f"the warm-up of {warmup} iterations does not end in a training of {iterations}; lower "
        "schedule.warmup_iterations in the profile"
        for warmup, iterations in sorted(plans)
        if warmup >= iterations
    ]
    for line in lines:
        warnings.warn(line, stacklevel=3)
    most = 0
    for spec in {repr((spec.model, spec.options, spec.start)): spec for spec in specs}.values():
        model = build_model(spec, class_names=train.class_names)
        start_weights(model, spec)
        most = max(most, min(spec.max_detections, model.max_detections))
    warn_of_limit(load_ground_truth(parts[data.split_label(split)]), max_detections=most)
