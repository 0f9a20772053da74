"""Reading label maps: for each image a mask of whole numbers, as microscopy tools write them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from b2inst.data.conversion import SPLITS, Conversion, Sample
from b2inst.data.errors import DataError
from b2inst.data.image_files import file_names, walk_images
from b2inst.data.images import probe_image
from b2inst.data.segmentation import Segmentation

LabelMap = NDArray[Any]  #: H×W whole numbers >= 0

_IMAGE_FOLDERS, _MASK_FOLDERS = {"images", "image"}, {"masks", "mask", "labels", "label"}
_MASK_NAME = re.compile(r"(.+?)(_cp_masks|_masks?|_labels?)")
#: What Cellpose writes beside the masks.
_NO_MASK = re.compile(r".+_(outlines|flows(_\d)?|dP|cellprob|cp_output)(_cp_masks)?")


def convert_label_maps(
    source: Path | str,
    folder: Path | str,
    *,
    name: str = "object",
    components: bool = False,
    skip_bad: bool = False,
    progress: bool = True,
) -> Conversion:
    """Write images and label maps as a COCO-format folder of one class; docs/data.md has more.

    A label map has one whole number a pixel: 0 is background, the pixels of any other number are
    one object. It lies in ``masks/`` or ``labels/`` beside ``images/`` under the image's name, or
    beside the image with ``_masks``, ``_cp_masks``, ``_mask`` or ``_labels`` added to the name.

    Args:
        source: folder of both, or of ``train/``, ``val/`` and ``test/`` with both.
        folder: to write to; not there, or empty.
        name: of the class.
        components: masks are binary, and each connected region (8 neighbours, as scikit-image's
            ``label``) is an object.
        skip_bad: leave out images that are bad or have no sound mask rather than raise.

    Raises:
        DataError: there are no pairs of image and mask, the masks are binary but ``components``
            is not set, or (without ``skip_bad``) an image or mask is bad.
    """
    conversion = Conversion(Path(source), Path(folder), skip_bad)
    splits = _find_pairs(conversion)
    if not components and _are_binary(m for pairs in splits.values() for m in pairs.values()):
        raise DataError(
            f"{source}: the masks are binary (none has two numbers, some have several regions of "
            "one), so what is one object is not known; number the objects, or take each connected "
            "region as one with --components"
        )

    def samples(pairs: dict[Path, Path]) -> Iterator[Sample]:
        for file_name, image in file_names(pairs).items():
            mask = pairs[image]
            try:
                height, width = probe_image(image)
                labels = read_label_map(mask)
                if labels.shape != (height, width):
                    raise DataError(
                        f"{mask}: has {labels.shape[1]}×{labels.shape[0]} pixels but its image "
                        f"{image} has {width}×{height}"
                    )
                if components and _is_label_map(labels):
                    raise DataError(
                        f"{mask}: has several numbers, so it is not binary; leave out --components"
                    )
            except DataError as error:
                conversion.leave_out([str(error)])
                continue
            codes = encode_labels(_regions(labels) if components else labels)
            yield Sample(image, file_name, height, width, [(1, code) for code in codes])

    written = {split: samples(pairs) for split, pairs in splits.items()}
    conversion.write(written, {1: name}, progress=progress)
    return conversion


def read_label_map(path: Path) -> LabelMap:
    """The numbers of a mask file (of a palette, the indices), H×W, all >= 0.

    Raises:
        DataError: it cannot be read, or has colours, several pages, fractions or negative numbers.
    """
    kind, pages = "", 1
    try:
        with Image.open(path) as file:
            kind, pages = f"{file.format} {file.mode}", getattr(file, "n_frames", 1)
            labels = np.asarray(file)
    except UnidentifiedImageError:  # as are TIFFs of 64-bit numbers
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # type: ignore[assignment]
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise DataError(f"{path}: unreadable mask ({error}); replace the file") from error
    if labels is None:
        raise DataError(f"{path}: unreadable mask; save it as TIFF or PNG of 16 or 32 bits")
    if kind.startswith("JPEG"):
        raise DataError(f"{path}: is a JPEG, which changes the numbers; save masks as PNG or TIFF")
    if pages > 1:
        raise DataError(f"{path}: has {pages} pages; save a mask of one plane for each image")
    if labels.ndim != 2:
        raise DataError(
            f"{path}: has colours ({kind}), not one number a pixel; number the objects 1, 2, … and "
            "save them as 16-bit grey"
        )
    if labels.dtype.kind not in "biu" and (labels % 1).any():
        raise DataError(f"{path}: has fractions; objects are numbered 1, 2, …")
    if labels.min() < 0:
        raise DataError(f"{path}: has the number {labels.min():.0f}; background is 0, objects > 0")
    return labels


def encode_labels(labels: LabelMap) -> list[Segmentation]:
    """The mask of each number above 0, in ascending order, as compressed run lengths."""
    labels = np.asfortranarray(labels)  # as COCO's run lengths go
    return [coco_mask.encode((labels == k).view(np.uint8)) for k in np.unique(labels) if k]


def _find_pairs(conversion: Conversion) -> dict[str, dict[Path, Path]]:
    """The mask of each image, by split."""
    images: dict[tuple[tuple[str, ...], str], Path] = {}
    found, problems = [], []
    for path in walk_images(conversion.source):
        folders = path.parent.relative_to(conversion.source).parts
        lower = {folder.lower() for folder in folders}
        place = tuple(f for f in folders if f.lower() not in _IMAGE_FOLDERS | _MASK_FOLDERS)
        if _NO_MASK.fullmatch(path.stem):
            continue
        if lower & _MASK_FOLDERS or (
            not lower & _IMAGE_FOLDERS and _MASK_NAME.fullmatch(path.stem)
        ):
            found.append((place, path))
        elif images.setdefault((place, path.stem), path) != path:
            problems.append(f"{path}: has the mask of {images[place, path.stem]}, of the same name")
    masks = defaultdict(list)
    for place, path in found:
        base = match[1] if (match := _MASK_NAME.fullmatch(path.stem)) else path.stem
        keys = [(place, stem) for stem in (path.stem, base, f"{base}_img")]
        key = next((key for key in keys if key in images), None)
        if key is None:
            problems.append(f"{path}: is a mask without an image")
        else:
            masks[key].append(path)
    if not masks:
        raise DataError(
            f"{conversion.source}: no mask of an image found; put them in images/ and masks/ under "
            "equal names, or side by side as a.png and a_masks.png"
        )
    splits: dict[str, dict[Path, Path]] = {}
    for key, image in images.items():
        if len(masks[key]) == 1:
            split = SPLITS.get(key[0][0].lower(), "train") if key[0] else "train"
            splits.setdefault(split, {})[image] = masks[key][0]
        elif masks[key]:
            problems.append(f"{image}: has two masks, {masks[key][0]} and {masks[key][1]}")
        else:
            problems.append(f"{image}: has no mask; give one of zeros to an image without objects")
    conversion.leave_out(problems)
    return {split: splits[split] for split in SPLITS.values() if split in splits}


def _are_binary(masks: Iterable[Path]) -> bool:
    """Whether no mask has two numbers, and a mask has several regions of one."""
    several = False
    for mask in masks:
        try:
            labels = read_label_map(mask)
        except DataError:  # told of when its image is converted
            continue
        if _is_label_map(labels):
            return False
        several |= _regions(labels).max() > 1
    return several


def _is_label_map(mask: LabelMap) -> bool:
    numbers = mask[mask > 0]
    return numbers.size > 0 and numbers.min() < numbers.max()


def _regions(mask: LabelMap) -> LabelMap:
    return cv2.connectedComponents((mask > 0).astype(np.uint8), connectivity=8)[1]
