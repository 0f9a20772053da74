"""From image files to annotated pictures and one COCO-format file."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data import DataError, read_image
from b2inst.data.image_files import file_names, image_suffixes
from b2inst.data.images import as_array
from b2inst.data.raster import Bytes
from b2inst.data.validation import shortened
from b2inst.evaluation import to_records
from b2inst.models import Segmenter
from b2inst.ops.ahead import ahead
from b2inst.ops.masks import code_windows
from b2inst.structures import Instances
from b2inst.viz.draw import draw_instances
from b2inst.viz.prediction_file import PredictionFile


@dataclass(frozen=True)
class PredictedFiles:
    """What :func:`predict_files` has done."""

    pictures: list[Path]  #: of the images that could be read, in their order
    kept: int  #: how many of them an earlier call had made
    full: int  #: in how many of the others the model found as many instances as it may
    bad: list[str]  #: a line for each image that could not be read


def find_images(paths: Iterable[str | Path], *, skip_bad: bool = False) -> list[Path]:
    """The given files, and the image files that lie directly in the given folders, sorted.

    Links in a folder that lead nowhere are passed over, and with a warning other files.

    Args:
        skip_bad: do not raise for a given file that does not exist.

    Raises:
        DataError: a folder has no image in it, or there is no such file.
    """
    found: list[Path] = []
    suffixes = image_suffixes()
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file())
            inside = [p for p in files if p.suffix.lower() in suffixes]
            if not inside:
                raise DataError(
                    f"{path}: no image in this folder (its subfolders are not searched); name the "
                    "images"
                )
            found += inside
            if others := [p.name for p in files if p not in inside and not p.name.startswith(".")]:
                warnings.warn(
                    f"{path}: files of other endings than Pillow reads are passed over: "
                    f"{len(others)} ({shortened(others)})",
                    stacklevel=2,
                )
        elif path.exists() or skip_bad:
            found.append(path)
        else:
            raise DataError(f"{path}: no such image; correct the path or go on with --skip-bad")
    return found


def predict_files(
    model: Segmenter,
    images: Sequence[Path],
    out: Path,
    *,
    category_ids: Sequence[int] = (),
    score_threshold: float = 0.3,
    overwrite: bool = False,
    progress: bool = True,
) -> PredictedFiles:
    """Predict image files; write a picture of each, and ``predictions.json`` for all.

    The JSON is a COCO annotation file of its own: ``images`` with the names that
    :func:`file_names` gives, ``categories``, and ``annotations`` with a ``score`` each (and
    ``class_score``, ``iou_score``, ``boundary_score``, where predicted), all detections whatever
    their score. Pictures have the names of the images, with the ending ``.png`` and a number where
    two would have the same; ``picture`` in ``images`` says which it is.

    Images that an earlier call has predicted into the same folder are kept, with the same model,
    threshold and precision only; an interrupted call can thus be repeated. Images that cannot be
    read are passed over.

    Args:
        model: in evaluation mode.
        images: files, at least one.
        out: folder to write to.
        category_ids: COCO category id of each label (default: 1, 2, …).
        score_threshold: detections with a lower ranking score are not drawn.
        overwrite: replace what is there instead of keeping it.
        progress: show a progress bar.

    Raises:
        DataError: a file would be replaced that is an input or was not made by an earlier call,
            or what is there is of another model, threshold, precision or image; nothing is written
            then.
        EvaluationError: the model predicts a NaN.
    """
    named = file_names(images)
    _check_folders(named, out)
    names = model.class_names or tuple(map(str, range(model.recipe["num_classes"])))
    ids = list(category_ids) or list(range(1, len(names) + 1))
    head = {
        "info": {
            "model": _fingerprint(model),
            "score_threshold": score_threshold,
            "precision": model.precision,
        },
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    }
    out.mkdir(parents=True, exist_ok=True)
    file = PredictionFile(out / "predictions.json", head, overwrite=overwrite)
    kept = {name: file.images[name] for name in named if name in file.images}
    new = [name for name in named if name not in kept]
    pictures = picture_names(new, [image["picture"] for image in file.images.values()])
    _check_pictures(named, [out / picture for picture in pictures.values()], overwrite)
    _check_unchanged(named, kept, file.path)
    pictures |= {name: image["picture"] for name, image in kept.items()}
    bad: dict[str, str] = {}

    def read(name: str) -> tuple[str, Bytes, str] | None:
        try:
            return name, as_array(read_image(named[name])), _sha256(named[name])
        except DataError as error:
            bad[name] = str(error)
            return None

    def predicted() -> Iterator[tuple[str, Bytes, str, Instances]]:
        images = ahead(read, new, workers=2, most=4)
        for image in tqdm(
            images, total=len(new), desc="predict", unit="image", disable=not progress
        ):
            if image is not None:
                yield *image, model.predict([image[1]])[0]

    def written(found: tuple[str, Bytes, str, Instances]) -> bool:
        name, array, digest, instances = found
        instances = instances.to("cpu")
        image = {
            "id": file.next_image_id,
            "file_name": name,
            "height": array.shape[0],
            "width": array.shape[1],
            "picture": pictures[name],
            "sha256": digest,
        }
        annotations = _annotations(file.next_image_id, instances, ids, named[name])
        file.add(image, annotations)
        windows = code_windows([annotation["segmentation"] for annotation in annotations])
        drawn = draw_instances(array, instances, score_threshold=score_threshold, windows=windows)
        _save(Image.fromarray(drawn), out / pictures[name])
        return len(instances) >= model.max_detections

    # One thread writes, image by image, and ``sum`` has no code of its own that Ctrl-C could stop
    # before the thread is done with what has been predicted.
    with file:
        full = sum(ahead(written, predicted(), workers=1, most=1))
    return PredictedFiles(
        pictures=[out / pictures[name] for name in named if name not in bad],
        kept=len(kept),
        full=full,
        bad=[bad[name] for name in named if name in bad],
    )


def picture_names(images: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """A picture for each image, both relative to their folders.

    It is called as the image but ``.png``, with a number where that is taken, be it in capitals or
    with composed accents, which some file systems do not tell apart.
    """
    pictures: dict[str, str] = {}
    used = {_folded(picture) for picture in taken}
    for image in images:
        plain = PurePosixPath(image).with_suffix(".png")
        picture, number = plain, 1
        while _folded(str(picture)) in used:
            number += 1
            picture = plain.with_stem(f"{plain.stem}-{number}")
        pictures[image] = str(picture)
        used.add(_folded(str(picture)))
    return pictures


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _check_folders(named: Mapping[str, Path], out: Path) -> None:
    """See that pictures do not come to lie among images, to be taken for such the next time."""
    folders = {_identity(path.parent) for path in named.values()} - {None}
    for folder in {(out / name).parent for name in named}:
        if _identity(folder) in folders:
            raise DataError(f"{folder}: is a folder of the images; choose another --out")


def _check_pictures(named: Mapping[str, Path], pictures: Iterable[Path], overwrite: bool) -> None:
    """See that new pictures replace nothing that is not theirs to replace."""
    images = {_identity(path) for path in named.values()} - {None}
    for path in pictures:
        if _identity(path) in images:
            raise DataError(f"{path}: is one of the images; choose another --out")
        if os.path.lexists(path) and not overwrite:
            raise DataError(
                f"{path}: would be replaced; choose another --out, or allow it with --overwrite"
            )


def _check_unchanged(
    named: Mapping[str, Path], kept: Mapping[str, dict[str, Any]], file: Path
) -> None:
    """See that the images predicted before are still the same."""
    for name, image in kept.items():
        if named[name].is_file() and _sha256(named[name]) != image["sha256"]:
            raise DataError(
                f"{named[name]}: is not the {name} that {file} is of; choose another --out, or "
                "--overwrite to begin anew"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells files and folders apart whatever links lead to them; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _annotations(
    image_id: int, instances: Instances, ids: Sequence[int], path: Path
) -> list[dict[str, Any]]:
    return [
        {**record, "area": int(coco_mask.area(record["segmentation"])), "iscrowd": 0}
        for record in to_records(image_id, instances, ids, file=path)
    ]


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(".picture.partial")
    try:
        picture.save(partial, format="PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _fingerprint(model: Segmenter) -> str:
    """What tells models apart: recipe, limits and weights."""
    made = {**model.recipe, "max_detections": model.max_detections, "tile": model.tile}
    digest = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
