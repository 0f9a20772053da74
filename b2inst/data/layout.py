"""Where a data set has the annotations and the images of its splits."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

from b2inst.data.errors import DataError

_ROBOFLOW = "_annotations.coco.json"

_LAYOUTS = (
    "annotations/instances_<split>.json with <split>/ or images/<split>/ (COCO, datumaro)",
    f"<split>/{_ROBOFLOW} beside its images (Roboflow)",
    "one annotation file with one image folder (CVAT, Label Studio)",
)

#: Names that a split has in different tools, by its role; the first that is there is meant.
_NAMES = {
    "train": ("train2017", "train", "training"),
    "val": ("val2017", "val", "valid", "validation", "test"),
}


def find_splits(root: Path | str) -> list[str]:
    """Names of the splits of a data set, sorted; docs/data.md says which layouts are known.

    Raises:
        DataError: the folder has none of these layouts; shows them and what was found.
    """
    return sorted(_splits(Path(root)))


def find_split(root: Path | str, split: str) -> tuple[Path, Path]:
    """Annotation file and image folder of a split.

    Args:
        root: folder in one of the layouts of ``find_splits``.
        split: its name; "train" and "val" also find ``train2017``, ``valid`` and the like.

    Raises:
        DataError: one of them is not there; names the splits that are.
    """
    annotation_file, image_dir = _find(Path(root), split)
    if not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such folder; the images of split {split!r} belong there")
    return annotation_file, image_dir


def find_annotations(root: Path | str, split: str) -> Path:
    """The annotation file of a split, whose images need not be there; see ``find_split``.

    Raises:
        DataError: it is not there; names the splits that are.
    """
    return _find(Path(root), split)[0]


def split_of(role: str, splits: Iterable[str]) -> str | None:
    """The split that is for training ("train") or validation ("val"), by its name."""
    return next((name for name in _NAMES.get(role, ()) if name in splits), None)


def _find(root: Path, split: str) -> tuple[Path, Path]:
    splits = _splits(root)
    name = split if split in splits else split_of(split, splits)
    if name is None:
        raise DataError(f"{root}: no split {split!r}; it has {', '.join(sorted(splits))}")
    return splits[name]


def _splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """Annotation file and image folder by the name of the split."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    coco = sorted(root.glob("annotations/instances_*.json"))
    if not coco:
        coco = [file for file in sorted(root.glob("annotations/*.json")) if _is_coco(file)]
    if coco:
        names = {file.stem.removeprefix("instances_"): file for file in coco}
        return {n: (file, _image_dir(root, n, alone=len(names) == 1)) for n, file in names.items()}
    roboflow = sorted(root.glob(f"*/{_ROBOFLOW}"))
    if roboflow:
        return {file.parent.name: (file, file.parent) for file in roboflow}
    files = [file for file in sorted(root.glob("*.json")) if _is_coco(file)]
    if not files:
        found = (
            ", ".join(sorted(p.name + "/" * p.is_dir() for p in root.iterdir())[:10]) or "nothing"
        )
        raise DataError(
            f"{root}: no COCO-format annotations; known are {'; '.join(_LAYOUTS)}; found: {found}"
        )
    names = {_name(file): file for file in files}
    return {n: (file, _image_dir(root, n, alone=len(names) == 1)) for n, file in names.items()}


def _name(file: Path) -> str:
    return "train" if file.name == _ROBOFLOW else file.stem.removeprefix("instances_")


def _image_dir(root: Path, split: str, *, alone: bool) -> Path:
    """The folder of a split's images: of its name, else the only one if the split is ``alone``."""
    for folder in (root / split, root / "images" / split, root / "images"):
        if folder.is_dir():
            return folder
    others = [p for p in root.iterdir() if p.is_dir() and p.name != "annotations"]
    if alone and len(others) == 1:
        return others[0]
    return root / split if (root / "annotations").is_dir() else root


def _is_coco(file: Path) -> bool:
    """Whether a JSON file has COCO's lists; not read as a whole, it may be large."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))
