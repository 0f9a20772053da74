"""Checking a data set before training: every annotation and every image is read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from b2inst.data.coco import CocoIndex
from b2inst.data.images import ImageRecord, check_size, probe_image
from b2inst.data.layout import find_split, find_splits
from b2inst.data.wording import BadFileError, DataError, counted, folded, shortened
from b2inst.ops.ahead import ahead


@dataclass(frozen=True)
class Report:
    """What is valid in each split of a data set, and what is wrong; ``print`` it."""

    splits: list[CocoIndex]
    problems: list[str]  #: a line each, the file first; printing shows ten of each kind

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        lines = [_describe(index) for index in self.splits]
        files = {"/".join(i.annotation_file.parts[-2:]): i.class_counts() for i in self.splits}
        lines += [f"note: {note}" for note in missing_classes(files)]
        lines += [f"problem: {problem}" for problem in folded(self.problems)]
        return "\n".join([*lines, "ok" if self.ok else counted(len(self.problems), "problem")])


def check_coco(
    root: Path | str = ".", *, split: str | None = None, crowds_as_instances: bool = False
) -> Report:
    """Read every annotation and every image of a data set.

    Args:
        root: Folder in one of the layouts of ``find_splits``.
        split: Only this one, as of ``find_split`` (default: all that are there).
        crowds_as_instances: Read annotations with ``iscrowd`` 1 as single objects.

    Raises:
        DataError: There is nothing to check, or a file that cannot be read at all.
    """
    splits, problems = [], []
    for name in [split] if split else find_splits(root):
        file, folder = find_split(root, name)
        found = CocoIndex.load(file, folder, skip_bad=True, crowds_as_instances=crowds_as_instances)
        index = verify_images(found, skip_bad=True, progress=True)
        splits.append(index)
        # An image of another size than the file says explains what is wrong with its objects.
        problems += index.skipped[len(found.skipped) :] + found.skipped
        try:
            index.require_instances()
        except DataError as error:
            problems.append(str(error))
        if index.class_names != splits[0].class_names:  # labels are positions in the list
            problems.append(
                f"{file}: other categories than {splits[0].annotation_file}; give all splits the "
                "same list of categories"
            )
    return Report(splits, problems)


def missing_classes(splits: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines on the classes without instances, given instances by class by name of the split."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for counts in splits.values() for name in counts):
        if without := [split for split, counts in splits.items() if not counts.get(name)]:
            where = "" if len(without) == len(splits) else f" in {', '.join(without)}"
            names[where].append(name)
    return [
        f"classes without instances{where}: {len(found)} ({shortened(found)})"
        for where, found in names.items()
    ]


def verify_images(index: CocoIndex, *, skip_bad: bool = False, progress: bool = False) -> CocoIndex:
    """Read every image of an index completely, so that training will not fail on one.

    Args:
        index: Split whose images are read.
        skip_bad: Leave out unreadable images and list them in ``skipped`` rather than raise.
        progress: Whether to show a progress bar.

    Raises:
        BadFileError: An image cannot be read or has another size than its annotations say.
    """
    workers = min(16, 2 * (os.cpu_count() or 1))  # some wait for the disk
    problems = ahead(_image_problem, index.images, workers=workers, most=4 * workers)
    hidden = None if progress else True  # None: if no terminal shows it
    bar = tqdm(problems, desc="checking images", total=len(index), disable=hidden)
    bad = {image.id: error for image, error in zip(index.images, bar, strict=True) if error}
    if not bad:
        return index
    if not skip_bad:
        raise next(iter(bad.values()))
    left = index.subset(image.id for image in index.images if image.id not in bad)
    return replace(left, skipped=[*index.skipped, *map(str, bad.values())])


def _image_problem(record: ImageRecord) -> BadFileError | None:
    try:
        check_size(record, *probe_image(record.path))
    except BadFileError as error:
        return error
    return None


def _describe(index: CocoIndex) -> str:
    sides = [side for image in index.images for side in (image.height, image.width)] or [0]
    areas = np.array([a.area for a in index.all_annotations() if not a.crowd])
    low, median, high = np.percentile(areas, (0, 50, 100)) if len(areas) else (0, 0, 0)
    small, large = int((areas < 32**2).sum()), int((areas >= 96**2).sum())  # COCO's ranges
    crowds = sum(a.crowd for a in index.all_annotations())
    counts = index.class_counts()
    with_instances = [f"{name} {count}" for name, count in counts.items() if count]
    lines = [
        str(index.annotation_file),
        f"  {counted(len(index), 'image')} with sides of {min(sides)}–{max(sides)} pixels, "
        f"{len(index) - len(index.annotated())} of them without instances",
        f"  {counted(len(areas), 'instance')} and {counted(crowds, 'crowd region')}",
        f"  instance area {low:.0f}–{high:.0f} pixels, median {median:.0f}: "
        f"{small} small, {len(areas) - small - large} medium, {large} large",
        f"  {counted(len(counts), 'class', 'classes')}: {shortened(with_instances, 100)}",
    ]
    return "\n".join(lines + [f"  note: {note}" for note in index.notes])
