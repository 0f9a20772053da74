"""Checking a data set before training: every annotation and every image is looked at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from b2inst.data.coco import CocoIndex, inspect, nothing_to_find
from b2inst.data.errors import DataError
from b2inst.data.images import frame_count, probe_image, size_problem
from b2inst.data.layout import find_split, find_splits
from b2inst.data.records import ImageRecord
from b2inst.data.validation import shortened

_HAVE_FRAMES = {".tif", ".tiff", ".gif", ".webp"}
_SMALL, _MEDIUM = 32**2, 96**2  # COCO's size ranges, pixels


@dataclass(frozen=True)
class SplitReport:
    """What one split holds and what is wrong with it; counts are of what is sound."""

    annotation_file: Path
    images: int
    empty_images: int  #: without any instance
    annotations: int  #: instances, crowds left out
    crowds: int
    classes: dict[str, int]  #: instances by class, in label order; ids where names are not unique
    image_sides: tuple[int, int]  #: shortest and longest side, pixels
    areas: tuple[float, float, float]  #: smallest, median and largest instance, pixels
    sizes: tuple[int, int, int]  #: small, medium, large instances by COCO's ranges of area
    notes: list[str]  #: what is unusual in the file, and how it is read
    problems: list[str]

    def __str__(self) -> str:
        (shortest, longest), (smallest, median, largest) = self.image_sides, self.areas
        small, medium, large = self.sizes
        counts = [f"{name} {count}" for name, count in self.classes.items() if count]
        lines = [
            str(self.annotation_file),
            f"  {self.images} images with sides of {shortest}–{longest} pixels, "
            f"{self.empty_images} of them without instances",
            f"  {self.annotations} instances and {self.crowds} crowd regions",
            f"  instance area {smallest:.0f}–{largest:.0f} pixels, median {median:.0f}: "
            f"{small} small, {medium} medium, {large} large",
            f"  {len(self.classes)} classes: {shortened(counts, 100)}",
        ]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines + [f"  problem: {problem}" for problem in self.problems])


@dataclass(frozen=True)
class Report:
    """Reports of the splits of a data set; ``print`` it."""

    splits: list[SplitReport]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """All problems, a line each, the file first."""
        return [problem for split in self.splits for problem in split.problems]

    @property
    def images(self) -> int:
        return sum(split.images for split in self.splits)

    @property
    def annotations(self) -> int:
        return sum(split.annotations for split in self.splits)

    @property
    def crowds(self) -> int:
        return sum(split.crowds for split in self.splits)

    @property
    def classes(self) -> dict[str, int]:
        """Instances by class over all splits."""
        total: Counter[str] = Counter()
        for split in self.splits:
            total.update(split.classes)
        return dict(total)

    @property
    def notes(self) -> list[str]:
        """Classes that have instances in some of the splits only, or in none."""
        return missing_classes({s.annotation_file.name: s.classes for s in self.splits})

    def __str__(self) -> str:
        n = len(self.problems)
        verdict = f"{n} problem{'s' * (n > 1)}" if n else "ok"
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([*map(str, self.splits), *notes, verdict])


def check_coco(
    root: Path | str | None = None,
    *,
    split: str | None = None,
    annotation_file: Path | str | None = None,
    image_dir: Path | str | None = None,
    crowds_as_instances: bool = False,
    progress: bool = True,
) -> Report:
    """Read every annotation and every image of a data set.

    Args:
        root: folder in one of the layouts of ``find_splits``.
        split: only this one (default: all that are there).
        annotation_file, image_dir: for another layout, instead of ``root``.
        crowds_as_instances: read annotations with ``iscrowd`` 1 as single objects.

    Raises:
        DataError: there is nothing to check, or a file that cannot be read at all.
    """
    if annotation_file is not None and image_dir is not None:
        pairs = [(Path(annotation_file), Path(image_dir))]
    elif root is None:
        raise DataError("nothing to check: give a folder, or both annotation file and image folder")
    else:
        names = [split] if split is not None else find_splits(root)
        pairs = [find_split(root, name) for name in names]
    reports = [_check_split(*pair, crowds_as_instances, progress) for pair in pairs]
    first = reports[0]
    for report in reports:
        if list(report.classes) != list(first.classes):  # labels go by the position in the list
            report.problems.append(
                f"{report.annotation_file}: other categories than {first.annotation_file}; give "
                "all splits the same list of categories"
            )
    return Report(reports)


def class_counts(index: CocoIndex) -> dict[str, int]:
    """Instances by class, in label order; the names have ids where they are not unique."""
    counts = Counter(a.label for a in index.all_annotations() if not a.crowd)
    times = Counter(index.class_names)
    return {
        f"{name} (id {number})" if times[name] > 1 else name: counts[label]
        for label, (name, number) in enumerate(
            zip(index.class_names, index.category_ids, strict=True)
        )
    }


def missing_classes(splits: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines on the classes that have no instances in some of the splits, or in any.

    Args:
        splits: instances by class, by the name of the split.
    """
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for counts in splits.values() for name in counts):
        without = [split for split, counts in splits.items() if not counts.get(name)]
        if without:
            where = "" if len(without) == len(splits) else f" in {', '.join(without)}"
            names.setdefault(where, []).append(name)
    return [
        f"classes without instances{where}: {len(found)} ({shortened(found)})"
        for where, found in names.items()
    ]


def verify_images(index: CocoIndex, *, skip_bad: bool = False, progress: bool = False) -> CocoIndex:
    """Read every image of an index to its end, so that training will not stumble over one.

    Takes a few milliseconds an image and thread.

    Args:
        skip_bad: leave unreadable images out and list them in ``skipped`` rather than raise.

    Raises:
        DataError: an image cannot be read or has another size than its annotations say.
    """
    bad = _bad_images(index, progress)
    if bad and not skip_bad:
        raise DataError(next(iter(bad.values())))
    if not bad:
        return index
    return replace(_without(index, bad), skipped=index.skipped + list(bad.values()))


def _without(index: CocoIndex, bad: Collection[int]) -> CocoIndex:
    return index.subset(image.id for image in index.images if image.id not in bad)


def _bad_images(index: CocoIndex, progress: bool) -> dict[int, str]:
    """The problem of each image that training could not use, by image id."""
    # Decoders run beside each other; twice the cores, since some threads wait for the disk.
    pool = ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1)))
    try:
        problems = pool.map(_image_problem, index.images)
        bar = tqdm(problems, desc="images", total=len(index), disable=not progress)
        found = zip(index.images, bar, strict=True)
        return {record.id: problem for record, problem in found if problem}
    finally:
        pool.shutdown(cancel_futures=True)  # else Ctrl-C waits for all images


def _image_problem(record: ImageRecord) -> str | None:
    try:
        return size_problem(record, *probe_image(record.path))
    except DataError as error:
        return str(error)


def _check_split(
    annotation_file: Path, image_dir: Path, crowds_as_instances: bool, progress: bool
) -> SplitReport:
    with tqdm(desc=annotation_file.name, total=1, unit="file", disable=not progress) as bar:
        found = inspect(annotation_file, image_dir, crowds_as_instances=crowds_as_instances)
        bar.update()
    bad = _bad_images(found, progress)
    index = _without(found, bad)
    notes, problems = list(index.notes), [*index.skipped, *bad.values()]
    if nothing := nothing_to_find(index):
        problems.append(nothing)
    frames = [image.path for image in index.images if image.path.suffix.lower() in _HAVE_FRAMES]
    if several := [path.name for path in frames if frame_count(path) > 1]:
        notes.append(
            f"{annotation_file}: images of several pages or frames, of which the first is used: "
            f"{len(several)} ({shortened(several)})"
        )
    areas = np.array([a.area for a in index.all_annotations() if not a.crowd])
    small, large = int((areas < _SMALL).sum()), int((areas >= _MEDIUM).sum())
    low, median, high = np.percentile(areas, (0, 50, 100)) if len(areas) else (0.0, 0.0, 0.0)
    sides = [side for image in index.images for side in (image.height, image.width)] or [0]
    return SplitReport(
        annotation_file=index.annotation_file,
        images=len(index),
        empty_images=len(index) - len(index.annotated()),
        annotations=len(areas),
        crowds=sum(map(len, index.annotations.values())) - len(areas),
        classes=class_counts(index),
        image_sides=(min(sides), max(sides)),
        areas=(float(low), float(median), float(high)),
        sizes=(small, len(areas) - small - large, large),
        notes=notes,
        problems=problems,
    )
