"""What would go wrong, found before hours of training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from b2inst.data.check import class_counts, missing_classes
from b2inst.evaluation.average_precision import warn_of_limit
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.runner import build_model, start_weights
from b2inst.experiments.runs.store import check_space, disk_need
from b2inst.experiments.specs.data_spec import CocoData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.inference import resolve_device
from b2inst.training.loggers import check_logger


def check_plan(
    specs: Iterable[RunSpec], workspace: Workspace, split: SplitName, machine: Resources
) -> None:
    """Find what would go wrong, before hours of training: data, models, devices, disk space.

    Raises:
        DataError: something is wrong with the annotations.
        SpecError: a model cannot be built, or a batch does not divide over the devices.
        DeviceError: there is no such device.
        WeightsError: a model cannot start from the given file.
        RunError: there is no room on the disk.
    """
    specs = list(specs)
    resolve_device(machine.device)
    if machine.logger is not None:
        check_logger(machine.logger)
    processes = machine.devices * machine.machines
    for spec in specs:
        if spec.schedule.batch_size % processes:
            raise SpecError(
                f"schedule.batch_size {spec.schedule.batch_size} is not divisible by {processes} "
                "devices; choose another number of devices"
            )
    data = specs[0].data
    names = {}
    counts = {}
    parts: list[SplitName] = ["train", split]
    if any(spec.schedule.eval_every for spec in specs):
        parts.append("val")
    for part in dict.fromkeys(parts):
        index = load_split(data, part, workspace.data, verify=True)
        names[part] = index.class_names
        counts[data.split_label(part)] = class_counts(index)
        for line in index.notes:
            warnings.warn(line, stacklevel=3)
        if index.skipped:
            lines = "\n".join(index.skipped)
            warnings.warn(
                f"{len(index.skipped)} invalid entries are skipped:\n{lines}", stacklevel=3
            )
        if part == split:
            warn_of_limit(
                load_ground_truth(index), max_detections=max(s.max_detections for s in specs)
            )
    if names["train"] != names[split]:
        raise SpecError(
            f"split {data.split_label(split)} has other categories than "
            f"{data.split_label('train')}; give both the same list of categories"
        )
    if isinstance(data, CocoData):  # scenes have all classes, but for a handful of images
        for line in missing_classes(counts):
            warnings.warn(line, stacklevel=3)
    needs: dict[str, float] = {}
    for spec in specs:
        key = repr((spec.model, spec.options, spec.start))
        if key not in needs:
            model = build_model(spec, class_names=names["train"])
            start_weights(model, spec)
            needs[key] = disk_need(model)
    total = sum(needs[repr((spec.model, spec.options, spec.start))] for spec in specs)
    check_space(workspace.runs, total)
