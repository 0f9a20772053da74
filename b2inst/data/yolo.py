"""Reading YOLO segmentation data sets, as Ultralytics, Roboflow and labelling tools write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from b2inst.data.conversion import SPLITS, Conversion
from b2inst.data.errors import DataError
from b2inst.data.images import walk_images

_TOLERANCE = 0.01  # of the image's side that a point may be outside, as Ultralytics accepts

#: Class index and polygon of each object; polygons n×2, x and y in [0, 1] of the image's sides.
Labels = list[tuple[int, NDArray[np.float64]]]


def convert_yolo(
    source: Path | str, folder: Path | str, *, skip_bad: bool = False, progress: bool = True
) -> Conversion:
    """Write a YOLO segmentation data set as a COCO-format folder; docs/data.md has more.

    Args:
        source: Folder with a ``data.yaml``, the YAML file itself, or a folder of ``images/`` and
            ``labels/`` alone, whose classes have the names in ``classes.txt``, or numbers.
        folder: To write to; must not exist, or be empty.
        skip_bad: Leave out images whose file or labels are bad rather than raise.
        progress: Whether to show progress bars.

    Raises:
        DataError: The source is no such data set, or (without ``skip_bad``) a file of it is bad,
            as are labels of boxes without masks.
    """
    conversion = Conversion(Path(source), Path(folder), skip_bad)
    root, config = _read_config(conversion.source)
    names = _class_names(root, config)
    splits = _find_images(root, config)
    categories = {index + 1: name for index, name in (names or {}).items()}
    without: list[Path] = []

    def read(image: Path, height: int, width: int) -> list[tuple[int, Any]]:
        file = _label_file(image)
        if file is None:
            without.append(image)
            return []
        labels = read_yolo_labels(file, names)
        if names is None:
            largest = max((index for index, _ in labels), default=-1)
            categories.update({index + 1: str(index) for index in range(largest + 1)})
        # Files have about six digits; two decimals restore coordinates that were whole.
        polygons = [(points * (width, height)).round(2).ravel().tolist() for _, points in labels]
        return [(index + 1, [p]) for (index, _), p in zip(labels, polygons, strict=True)]

    for split, images in splits.items():
        conversion.read(split, images, read, progress)
    if len(without) == sum(map(len, splits.values())):
        place = _parallel(without[0].parent) / f"{without[0].stem}.txt"
        raise DataError(f"{source}: no image has a label file; the first's place is {place}")
    if without:
        conversion.notes.append(f"images without label file, taken as empty: {len(without)}")
    conversion.write(dict(sorted(categories.items())))
    return conversion


def read_yolo_labels(path: Path, names: Mapping[int, str] | None = None) -> Labels:
    """Read a label file; DataError if a line is no polygon in the image or of an unknown class."""
    objects, boxes = [], []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        where, fields = f"{path}, line {number}", line.split()
        if len(fields) in (0, 5):
            boxes += [number] * bool(fields)
            continue
        try:
            values = np.array(fields, dtype=np.float64)
        except ValueError:
            raise DataError(f"{where}: {line!r:.60} is not numbers with spaces between") from None
        if len(values) < 7 or len(values) % 2 == 0:
            raise DataError(
                f"{where}: has {len(values)} numbers, not a class index and three or more points x "
                "y (predictions have a score at the end; save them without)"
            )
        if (index := values[0]) < 0 or index % 1 or (names and int(index) not in names):
            known = f"one of the {len(names)} named classes" if names else "a whole number >= 0"
            raise DataError(f"{where}: class index {fields[0]} is not {known}")
        points = values[1:].reshape(-1, 2)
        inside = (points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)
        if not inside.all():
            raise DataError(
                f"{where}: coordinate {points[~inside][0]:g} is not within 0 and 1; divide x by "
                "the image's width and y by its height"
            )
        objects.append((int(index), points.clip(0, 1)))
    if boxes:
        raise DataError(
            f"{path}: {len(boxes)} of {len(boxes) + len(objects)} objects are boxes, which have no "
            f"mask (the first in line {boxes[0]}); outline them as polygons"
        )
    return objects


def _label_file(image: Path) -> Path | None:
    """In ``labels/`` parallel to ``images/``, else beside the image."""
    files = [folder / f"{image.stem}.txt" for folder in (_parallel(image.parent), image.parent)]
    return next((file for file in files if file.is_file()), None)


def _parallel(folder: Path) -> Path:
    """The folder with its last part ``images`` replaced, as Ultralytics finds labels."""
    before, images, after = f"{folder.absolute().as_posix()}/".rpartition("/images/")
    return Path(f"{before}/labels/{after}") if images else folder


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def _read_config(source: Path) -> tuple[Path, dict[str, Any]]:
    """The data set's folder and the content of its YAML file, all values of which are text."""
    if source.is_dir():
        files = [f for p in ("data.yaml", "*.yaml", "*.yml") for f in sorted(source.glob(p))]
        if not files:
            return source, {}
        source = files[0]
    try:
        # YAML's usual loader reads a class named `no` as false.
        config = yaml.load(_read_text(source), yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise DataError(f"{source}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise DataError(f"{source}: has no keys such as train, val and names")
    return source.parent, config


def _class_names(root: Path, config: Mapping[str, Any]) -> dict[int, str] | None:
    """Names by class index, or None where no file has them."""
    names = config.get("names")
    if not names and (file := root / "classes.txt").is_file():
        names = _read_text(file).rstrip().splitlines()
    if not names:
        return None
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        return {int(index): str(name).strip() for index, name in names.items()}
    except (AttributeError, ValueError):
        raise DataError(f"{root}: names must be a list, or 0: name, 1: name, …") from None


def _find_images(root: Path, config: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Images by split."""
    entries = {SPLITS[k]: config[k] for k in SPLITS if config.get(k, "") not in ("", "null", "~")}
    if not entries:
        folders = [(s, p) for s in SPLITS for p in (f"images/{s}", f"{s}/images")]
        entries = {SPLITS[name]: path for name, path in folders if (root / path).is_dir()}
        entries = entries or {"train": "images" if (root / "images").is_dir() else "."}
    base = _find(str(config.get("path", "")), [root])
    bases = [base, root] if base else [root]
    splits: dict[str, list[Path]] = {}
    for split, entry in entries.items():
        images: list[Path] = []
        for text in [entry] if isinstance(entry, str) else map(str, entry):
            place = _find(text, bases)
            if place is None and split != "test":  # Roboflow names it also where it has none
                raise DataError(f"{root}: {split} is {text}, which is not there; correct the path")
            if place is not None and place.is_dir():
                images += walk_images(place)
            elif place is not None:  # a list; images that do not exist are reported when read
                lines = filter(None, map(str.strip, _read_text(place).splitlines()))
                near = [place.parent, *bases]
                images += [_find(line, near) or place.parent / line for line in lines]
        if images:
            splits[split] = list(dict.fromkeys(images))
    if not splits:
        raise DataError(
            f"{root}: no images found; give a folder with data.yaml (train, val, names), or with "
            "images/ (or images/<split>/, <split>/images/) and labels/ beside"
        )
    return splits


def _find(text: str, bases: Sequence[Path]) -> Path | None:
    """The file or folder that a data set names, relative to any of some folders.

    A path that does not exist is tried without its first parts: it may be of another machine, and
    Roboflow writes ``../train/images`` for the folder beside the YAML file.
    """
    path = PurePosixPath(text.strip().replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("..", "/")]
    paths = [base / path for base in bases]
    paths += [bases[-1].joinpath(*parts[k:]) for k in range(len(parts))]
    return next((path for path in paths if path.exists()), None)
