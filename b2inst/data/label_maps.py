"""Reading label maps: for each image a mask of whole numbers, as microscopy tools write them."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from pycocotools import mask as coco_mask

from b2inst.data.conversion import SPLITS, Conversion
from b2inst.data.images import walk_images
from b2inst.data.segmentation import RLE
from b2inst.data.wording import DataError

_IMAGE_FOLDERS, _MASK_FOLDERS = {"images", "image"}, {"masks", "mask", "labels", "label"}
_MASK_NAME = re.compile(r"(.+?)(_cp_masks|_masks?|_labels?)")
#: Other files that Cellpose writes.
_NO_MASK = re.compile(r".+_(outlines|flows(_\d)?|dP|cellprob|cp_output)(_cp_masks)?")


def convert_label_maps(
    source: Path | str,
    folder: Path | str,
    *,
    name: str = "object",
    components: bool = False,
    skip_bad: bool = False,
) -> Conversion:
    """Write images and label maps as a COCO-format folder of one class; docs/data.md has more.

    Args:
        source: Folder of both, or of ``train/``, ``val/`` and ``test/`` with both.
        folder: To write to; must not exist, or be empty.
        name: Class.
        components: Whether masks are binary, and each connected region (8 neighbours, as
            scikit-image's ``label``) is an object.
        skip_bad: Leave out images that are bad or have no valid mask rather than raise.

    Raises:
        DataError: There are no pairs of image and mask, the masks are binary but ``components``
            is not set, or (without ``skip_bad``) an image or mask is bad.
    """
    conversion = Conversion(Path(source), Path(folder), skip_bad)
    splits = _find_pairs(conversion)
    masks = {image: mask for pairs in splits.values() for image, mask in pairs.items()}
    numbered = several = False
    doubtful: list[str] = []

    def read(image: Path, height: int, width: int) -> list[tuple[int, RLE]]:
        nonlocal numbered, several
        labels = read_label_map(masks[image])
        if labels.shape != (height, width):
            raise DataError(
                f"{masks[image]}: has {labels.shape[1]}×{labels.shape[0]} pixels but its image "
                f"{image} has {width}×{height}"
            )
        count, regions = cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=8)
        numbers = len(np.unique(labels[labels > 0]))
        numbered |= numbers > 1
        several |= count > 2  # with the background
        if numbers == 1 and count > 3 and not components:
            doubtful.append(f"{masks[image]}: one object of {count - 1} regions; is it binary?")
        objects = np.asfortranarray(regions if components else labels)  # as COCO's run lengths
        found = ((objects == k).view(np.uint8) for k in np.unique(objects) if k)
        return [(1, coco_mask.encode(mask)) for mask in found]

    for split, pairs in splits.items():
        conversion.read(split, pairs, read)
    if components and numbered:
        raise DataError(f"{source}: masks have several numbers; leave out --components")
    if several and not numbered and not components:
        raise DataError(
            f"{source}: the masks are binary (none has two numbers, some have several regions of "
            "one), so it is not known what is one object; number the objects, or take each "
            "connected region as one with --components"
        )
    conversion.notes += doubtful
    conversion.write({1: name})
    return conversion


def read_label_map(path: Path) -> NDArray[Any]:
    """The numbers of a mask file (of a palette, the indices), H×W, all >= 0.

    Raises:
        DataError: It cannot be read, or has colours, several pages, fractions or negative numbers.
    """
    try:
        with Image.open(path) as file:
            kind, pages = f"{file.format} {file.mode}", getattr(file, "n_frames", 1)
            labels = np.asarray(file)
            if kind == "TIFF 1" and file.getexif().get(Base.PhotometricInterpretation) == 0:
                labels = ~labels  # tifffile says that 0 is white, and means the numbers
    except Exception as error:  # decoders raise errors of any type for broken files
        raise DataError(
            f"{path}: unreadable mask ({error}); save it as TIFF or PNG of 8 to 32 bits"
        ) from error
    problem = None
    if kind.startswith("JPEG"):
        problem = "is a JPEG, which changes the numbers"
    elif pages > 1:
        problem = f"has {pages} pages, not one for its image"
    elif labels.ndim != 2:
        problem = f"has colours ({kind}), not one number a pixel"
    elif labels.min() < 0 or (labels % 1).any():
        problem = "has negative numbers or fractions"
    if problem:
        raise DataError(
            f"{path}: {problem}; save masks as PNG or TIFF: background 0, objects 1, 2, …"
        )
    return labels


def _find_pairs(conversion: Conversion) -> dict[str, dict[Path, Path]]:
    """The mask of each image, by split."""
    images: defaultdict[tuple[Any, ...], list[Path]] = defaultdict(list)
    masks: defaultdict[tuple[Any, ...], list[Path]] = defaultdict(list)
    for path in walk_images(conversion.source):
        stem = path.stem
        if _NO_MASK.fullmatch(stem):
            continue
        folders = path.parent.relative_to(conversion.source).parts
        lower = {folder.lower() for folder in folders}
        place = tuple(f for f in folders if f.lower() not in _IMAGE_FOLDERS | _MASK_FOLDERS)
        base = match[1] if (match := _MASK_NAME.fullmatch(stem)) else stem
        if lower & _MASK_FOLDERS or (base != stem and not lower & _IMAGE_FOLDERS):
            for name in {stem, base}:
                masks[*place, name].append(path)
        else:
            images[*place, stem].append(path)
    if not masks:
        raise DataError(
            f"{conversion.source}: no mask of an image found; put them in images/ and masks/ under "
            "equal names, or side by side as a.png and a_masks.png"
        )
    splits: dict[str, dict[Path, Path]] = {}
    alone = {mask for found in masks.values() for mask in found}
    for (*within, stem), paths in images.items():
        found = masks.get((*within, stem)) or masks.get((*within, stem.removesuffix("_img")), [])
        alone.difference_update(found)
        if len(paths) == len(found) == 1:
            split = SPLITS.get(within[0].lower(), "train") if within else "train"
            splits.setdefault(split, {})[paths[0]] = found[0]
        else:
            others = ", ".join(map(str, [*paths[1:], *found])) or "no mask"
            problem = f"{paths[0]}: must have one mask of its name, but has {others}"
            remedy = "give a mask of zeros to an image without objects"
            conversion.leave_out(DataError(f"{problem}; {remedy}"))
    for mask in sorted(alone):
        conversion.leave_out(DataError(f"{mask}: is a mask without an image"))
    return {split: splits[split] for split in SPLITS.values() if split in splits}
