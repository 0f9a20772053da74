"""Where COCO's own layout has the annotations and the images of a split."""

from __future__ import annotations

from pathlib import Path

from b2inst.data.errors import DataError


def find_split(root: Path | str, split: str) -> tuple[Path, Path]:
    """Annotation file and image folder of a split in a folder laid out as COCO itself.

    Raises:
        DataError: one of them is not there; names the splits that are.
    """
    annotation_file, image_dir = find_annotations(root, split), Path(root) / split
    if not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such folder; the images of split {split!r} belong there")
    return annotation_file, image_dir


def find_annotations(root: Path | str, split: str) -> Path:
    """The annotation file alone; the images need not be there.

    Raises:
        DataError: it is not there; names the splits that are.
    """
    annotation_file = Path(root) / "annotations" / f"instances_{split}.json"
    if not annotation_file.is_file():
        there = ", ".join(find_splits(root)) or "none"
        raise DataError(
            f"{annotation_file}: no such file; a COCO folder has "
            f"annotations/instances_<split>.json (splits found: {there})"
        )
    return annotation_file


def find_splits(root: Path | str) -> list[str]:
    """Names of the splits that have an annotation file, sorted."""
    prefix = "instances_"
    files = Path(root).glob(f"annotations/{prefix}*.json")
    return sorted(file.stem.removeprefix(prefix) for file in files)
