"""Where a data set has the annotations and the images of its splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from b2inst.data.images import walk_images
from b2inst.data.wording import DataError, shortened

_ROBOFLOW = "_annotations.coco.json"

_LAYOUTS = (
    "annotations/instances_<split>.json with <split>/ or images/<split>/ (COCO, datumaro); "
    f"<split>/{_ROBOFLOW} beside its images (Roboflow); "
    "one annotation file with one image folder (CVAT, Label Studio)"
)

#: Names of splits in different tools, by role; the first that exists is used.
_NAMES = {
    "train": ("train2017", "train", "training"),
    "val": ("val2017", "val", "valid", "validation", "test"),
}


def find_splits(root: Path | str) -> list[str]:
    """Names of the splits of a data set, sorted; docs/data.md says which layouts are known.

    Raises:
        DataError: The folder has none of these layouts; shows them and what was found.
    """
    return sorted(_splits(Path(root)))


def find_split(root: Path | str, split: str, *, with_images: bool = True) -> tuple[Path, Path]:
    """Annotation file and image folder of a split.

    Args:
        root: Folder in one of the layouts of ``find_splits``.
        split: Its name; "train" and "val" also find ``train2017``, ``valid`` and the like. Or, for
            another layout, ``ANNOTATIONS.json:IMAGES``, which need not exist.
        with_images: Whether the image folder must exist.

    Raises:
        DataError: One of them does not exist; names the splits that do.
    """
    annotations, _, images = split.partition(".json:")
    if images:
        return Path(f"{annotations}.json"), Path(images)
    splits = _splits(Path(root))
    name = split if split in splits else split_of(split, splits)
    if name is None:
        path = "; a path is written as ANNOTATIONS.json:IMAGES" if ".json" in split else ""
        raise DataError(f"{root}: no split {split!r}; it has {', '.join(sorted(splits))}{path}")
    annotation_file, image_dir = splits[name]
    if with_images and not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such folder; the images of split {split!r} belong there")
    return annotation_file, image_dir


def split_of(role: str, splits: Iterable[str]) -> str | None:
    """The name of the split for training ("train") or validation ("val")."""
    return next((name for name in _NAMES.get(role, ()) if name in splits), None)


def _splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """Annotation file and image folder by the name of the split."""
    if not root.is_dir():
        remedy = "is a file; give its folder, or ANNOTATIONS.json:IMAGES as a split"
        raise DataError(f"{root}: {remedy if root.exists() else 'no such folder'}")
    if splits := _found(root):
        return splits
    if meant := next(_near(root), None):
        raise DataError(f"{root}: is no COCO-format folder; did you mean {meant}?")
    found = shortened(sorted(path.name + "/" * path.is_dir() for path in root.iterdir()), 10)
    raise DataError(
        f"{root}: no COCO-format annotations; known are {_LAYOUTS}; found: {found or 'nothing'}; "
        "`b2inst data convert` reads YOLO labels and label maps"
    )


def _near(root: Path) -> Iterator[Path]:
    """Data sets that a folder belongs to, or that are in it."""
    own = root.absolute()
    with suppress(OSError):  # of others' files
        for folder in own.parents[:2]:
            splits = _found(folder).values()
            if any(own in (file.parent, images, images.parent) for file, images in splits):
                yield folder
        yield from filter(_found, sorted(filter(Path.is_dir, root.iterdir())))


def _found(root: Path) -> dict[str, tuple[Path, Path]]:
    """The splits of a folder; empty if it has none of the layouts."""
    files = sorted(root.glob("annotations/instances_*.json"))
    files = files or [file for file in sorted(root.glob("annotations/*.json")) if _is_coco(file)]
    if not files and (roboflow := sorted(root.glob(f"*/{_ROBOFLOW}"))):
        return {file.parent.name: (file, file.parent) for file in roboflow}
    if root.absolute().name != "annotations" or walk_images(root):  # else images are beside it
        files = files or [file for file in sorted(root.glob("*.json")) if _is_coco(file)]
    others = [path for path in root.glob("*/") if path.name != "annotations"]
    splits = {}
    for file in files:
        name = "train" if file.name == _ROBOFLOW else file.stem.removeprefix("instances_")
        folders = [root / name, root / "images" / name, root / "images"]
        folders += others if len(files) == len(others) == 1 else []
        default = root / name if (root / "annotations").is_dir() else root
        splits[name] = file, next(filter(Path.is_dir, folders), default)
    return splits


def _is_coco(file: Path) -> bool:
    """Whether a JSON file has COCO's lists, by their names."""
    text = file.read_bytes() if file.is_file() else b""
    return all(key in text for key in (b'"images"', b'"annotations"', b'"categories"'))
