"""Reading YOLO segmentation data sets, as Ultralytics, Roboflow and labelling tools write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from b2inst.data.conversion import SPLITS, Conversion
from b2inst.data.images import walk_images
from b2inst.data.wording import DataError

_TOLERANCE = 0.01  # of the image's side that a point may be outside, as Ultralytics accepts
_MOST_CLASSES = 10_000  # where they have no names, and all numbers up to the largest are classes
_NO_VALUE = ("", "null", "~")  # as text

#: Class index and polygon of each object; polygons n×2, x and y in [0, 1] of the image's sides.
Labels = list[tuple[int, NDArray[np.float64]]]


def convert_yolo(source: Path | str, folder: Path | str, *, skip_bad: bool = False) -> Conversion:
    """Write a YOLO segmentation data set as a COCO-format folder; docs/data.md has more.

    Args:
        source: Folder with a ``data.yaml``, the YAML file itself, or a folder of ``images/`` and
            ``labels/`` alone, whose classes have the names in ``classes.txt``, or numbers.
        folder: To write to; must not exist, or be empty.
        skip_bad: Leave out images whose file or labels are bad rather than raise.

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
        places = _label_places(image)
        file = next(filter(Path.is_file, places), None)
        if file is None:
            without.append(places[0])
            return []
        labels = read_yolo_labels(file, names)
        if names is None:
            largest = max((index for index, _ in labels), default=-1)
            categories.update({index + 1: str(index) for index in range(largest + 1)})
        # Files have about six digits; two decimals restore coordinates that were whole.
        size = (width, height)
        return [(k + 1, [(points * size).round(2).ravel().tolist()]) for k, points in labels]

    for split, images in splits.items():
        conversion.read(split, images, read)
    if len(without) == sum(map(len, splits.values())):
        raise DataError(
            f"{source}: none of its images has a label file; the first's place is {without[0]}"
        )
    if without:
        conversion.notes.append(f"images without label file, taken as empty: {len(without)}")
    conversion.write(dict(sorted(categories.items())))
    return conversion


def read_yolo_labels(path: Path, names: Mapping[int, str] | None = None) -> Labels:
    """Read a label file; DataError if a line is no polygon in the image or of an unknown class."""
    objects = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        where, fields = f"{path}, line {number}", line.split()
        if not fields:
            continue
        if len(fields) == 5:
            raise DataError(f"{where}: is a box, which has no mask; outline objects as polygons")
        try:
            index, *numbers = map(float, fields)
            points = np.reshape(numbers, (-1, 2))
        except ValueError:
            points = np.empty((0, 2))
        if len(points) < 3:
            raise DataError(
                f"{where}: {line!r:.60} is not a class index and three or more points x y "
                "(predictions have a score at the end; save them without)"
            )
        if index % 1 or not (index in names if names else 0 <= index < _MOST_CLASSES):
            counted = f"a whole number from 0 to {_MOST_CLASSES - 1}"
            known = f"one of the {len(names)} named classes" if names else counted
            raise DataError(f"{where}: class index {fields[0]} is not {known}")
        inside = (points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)
        if not inside.all():
            raise DataError(
                f"{where}: coordinate {points[~inside][0]:g} is not within 0 and 1; divide x by "
                "the image's width and y by its height"
            )
        objects.append((int(index), points.clip(0, 1)))
    return objects


def _label_places(image: Path) -> list[Path]:
    """In ``labels/`` parallel to the last ``images/``, as Ultralytics finds it, else beside."""
    before, images, after = image.absolute().as_posix().rpartition("/images/")
    places = [Path(f"{before}/labels/{after}"), image] if images else [image]
    return [place.with_suffix(".txt") for place in places]


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
    if config.get("kpt_shape", "") not in _NO_VALUE:
        raise DataError(
            f"{source}: has kpt_shape, so its labels are keypoints, which have no mask; outline "
            "objects as polygons, or delete kpt_shape if they are"
        )
    return source.parent, config


def _class_names(root: Path, config: Mapping[str, Any]) -> dict[int, str] | None:
    """Names by class index, or None where no file has them."""
    names = config.get("names")
    if not names and (file := root / "classes.txt").is_file():
        names = _read_text(file).rstrip().splitlines()
    try:
        found = dict(enumerate(names)) if isinstance(names, list) else dict(names or {})
        return {int(index): str(name).strip() for index, name in found.items()} or None
    except ValueError:
        raise DataError(f"{root}: names must be a list, or 0: name, 1: name, …") from None


def _find_images(root: Path, config: Mapping[str, Any]) -> dict[str, list[Path]]:
    entries = {SPLITS[k]: config[k] for k in SPLITS if config.get(k, "") not in _NO_VALUE}
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
