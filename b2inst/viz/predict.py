"""From image files to annotated pictures and one COCO-format file."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data import DataError, read_image
from b2inst.data.files import replacing
from b2inst.data.image_files import file_names, image_suffixes
from b2inst.data.images import as_array
from b2inst.data.validation import shortened
from b2inst.evaluation import to_records
from b2inst.models import Segmenter
from b2inst.ops.ahead import ahead
from b2inst.structures import Instances
from b2inst.viz.draw import Picture, draw_instances, label_map
from b2inst.viz.prediction_file import PredictionFile


@dataclass(frozen=True)
class PredictedFiles:
    """Result of :func:`predict_files`."""

    pictures: list[Path]  #: pictures of the images that could be read, in their order
    kept: int  #: number of pictures from an earlier call
    full: int  #: number of new images in which the model found as many instances as it may
    bad: list[str]  #: a line for each file that could not be read


def find_images(
    paths: Iterable[str | Path], *, outside: Path | None = None, skip_bad: bool = False
) -> list[Path]:
    """List the given files, and the image files in the given folders and their subfolders, sorted.

    Hidden folders and links that lead nowhere are left out, and with a warning other files.

    Args:
        paths: Files and folders.
        outside: Folder whose files are left out if it is in one of the given folders.
        skip_bad: Whether to list given files that do not exist instead of raising an error.

    Raises:
        DataError: A folder contains no image, or there is no such file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _images_in(path, outside)
        elif path.exists() or skip_bad:
            found.append(path)
        else:
            raise DataError(f"{path}: no such image; correct the path or go on with --skip-bad")
    return found


def _images_in(folder: Path, outside: Path | None) -> list[Path]:
    excluded = None if outside is None else outside.resolve()
    images, others, suffixes = [], [], image_suffixes()
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        own = excluded != folder.resolve() and excluded in path.resolve().parents
        if hidden or own or not path.is_file():
            continue
        if path.suffix.lower() in suffixes:
            images.append(path)
        else:
            others.append(path.name)
    if not images:
        raise DataError(f"{folder}: no image in this folder; name another")
    if others:
        warnings.warn(
            f"{folder}: files of other endings than images have are left out: "
            f"{len(others)} ({shortened(others)})",
            stacklevel=3,
        )
    return images


def predict_files(
    model: Segmenter,
    images: Sequence[Path],
    out: Path,
    *,
    folders: Iterable[Path] = (),
    category_ids: Sequence[int] = (),
    score_threshold: float = 0.3,
    label_maps: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> PredictedFiles:
    """Predict image files, and write a picture of each and ``predictions.json`` for all.

    The JSON is a COCO annotation file of its own: ``images`` with the names that
    :func:`file_names` gives, ``categories``, and ``annotations`` with a ``score`` each (and
    ``class_score``, ``iou_score``, ``boundary_score``, if predicted), all detections whatever
    their score. Pictures have the names of the images, with the ending ``.png`` and a number if
    two would have the same; ``picture`` in ``images`` says which it is, and ``label_map`` likewise.

    Files that an earlier call has predicted into the same folder are kept, so an interrupted call
    can be repeated, with the same model, threshold and precision only. Files that cannot be read
    are left out.

    Args:
        model: Model in evaluation mode.
        images: Image files, at least one.
        out: Folder to write to.
        folders: Images are named relative to a folder that also contains these.
        category_ids: COCO category id of each label (default: 1, 2, …).
        score_threshold: Lowest ranking score of the instances that are drawn.
        label_maps: Whether to also write a 16-bit PNG of each image (``draw.label_map``), under
            the picture's name with ``_masks`` added.
        overwrite: Replace existing files instead of keeping them.
        progress: Show a progress bar.

    Raises:
        DataError: A file would be replaced that was not made by an earlier call, or existing
            predictions are of another model, threshold, precision or image; nothing is written.
        EvaluationError: The model predicts a NaN.
    """
    named = file_names(images, folders=folders)
    _check_folders(named, out)
    ids = list(category_ids) or list(range(1, model.recipe["num_classes"] + 1))
    out.mkdir(parents=True, exist_ok=True)
    head = _head(model, ids, {"score_threshold": score_threshold, "label_maps": label_maps})
    file = PredictionFile(out / "predictions.json", head, overwrite=overwrite)
    kept = {name: image for name, image in file.images.items() if name in named}
    _check_unchanged(named, kept, file.path)
    new = [name for name in named if name not in kept]
    outputs = _output_names(new, file.images, label_maps=label_maps)
    if not overwrite:
        _check_new(out, outputs, continued=bool(file.images))
    bad: dict[str, str] = {}
    write = partial(
        _write, file=file, named=named, outputs=outputs, ids=ids, score_threshold=score_threshold
    )
    predicted = _predict(model, named, new, bad, progress=progress)
    # Also after Ctrl-C, what has been predicted is written before the file is closed.
    written: Any = ahead(write, predicted, workers=1, most=1)
    with file, closing(written) as counts:
        full = sum(count >= model.max_detections for count in counts)
    pictures = {name: image["picture"] for name, image in file.images.items()}
    return PredictedFiles(
        pictures=[out / pictures[name] for name in named if name not in bad],
        kept=len(kept),
        full=full,
        bad=[bad[name] for name in named if name in bad],
    )


def _predict(
    model: Segmenter,
    named: Mapping[str, Path],
    new: Sequence[str],
    bad: dict[str, str],
    *,
    progress: bool,
) -> Iterator[tuple[str, Picture, str, Instances]]:
    """Name, pixels, digest and instances of each new image; errors are noted in ``bad``."""

    def read(name: str) -> tuple[Picture, str] | DataError:
        try:
            return as_array(read_image(named[name])), _sha256(named[name])
        except DataError as error:
            return error

    decoded = zip(new, ahead(read, new, workers=2, most=4), strict=True)
    for name, found in tqdm(
        decoded, total=len(new), desc="predict", unit="image", disable=not progress
    ):
        if isinstance(found, DataError):
            bad[name] = str(found)
        else:
            yield name, *found, model.predict([found[0]])[0].to("cpu")


def _write(
    item: tuple[str, Picture, str, Instances],
    *,
    file: PredictionFile,
    named: Mapping[str, Path],
    outputs: Mapping[str, dict[str, str]],
    ids: Sequence[int],
    score_threshold: float,
) -> int:
    """Write an image's entry, label map and picture; the number of its instances."""
    name, array, digest, instances = item
    own, folder = outputs[name], file.path.parent
    size = {"height": array.shape[0], "width": array.shape[1]}
    annotations = _annotations(instances, ids, named[name])
    file.add({"file_name": name, **size, **own, "sha256": digest}, annotations)
    if "label_map" in own:
        numbers = label_map(instances, score_threshold=score_threshold)
        _save_png(numbers, folder / own["label_map"])
    drawn = draw_instances(array, instances, score_threshold=score_threshold)
    _save_png(drawn, folder / own["picture"])
    return len(instances)


def _head(model: Segmenter, ids: Sequence[int], settings: dict[str, Any]) -> dict[str, Any]:
    names = model.class_names or tuple(map(str, range(model.recipe["num_classes"])))
    return {
        "info": {"model": _fingerprint(model), "precision": model.precision, **settings},
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    }


def _output_names(
    names: Iterable[str], earlier: Mapping[str, Mapping[str, str]], *, label_maps: bool
) -> dict[str, dict[str, str]]:
    """Paths of each image's picture and label map, relative to the output folder.

    A number is added to a path that is taken, also if it differs in case only, as some file
    systems do not distinguish it.
    """
    keys = ("picture", "label_map")
    taken = {image[key].casefold() for image in earlier.values() for key in keys if key in image}

    def free(path: PurePosixPath) -> str:
        unique, number = path, 1
        while str(unique).casefold() in taken:
            number += 1
            unique = path.with_stem(f"{path.stem}-{number}")
        taken.add(str(unique).casefold())
        return str(unique)

    outputs = {name: {"picture": free(PurePosixPath(name).with_suffix(".png"))} for name in names}
    for own in outputs.values() if label_maps else ():
        picture = PurePosixPath(own["picture"])
        own["label_map"] = free(picture.with_stem(f"{picture.stem}_masks"))
    return outputs


def _check_folders(named: Mapping[str, Path], out: Path) -> None:
    """Make sure that pictures are not written among images, where the next call would find them."""
    folders = {path.parent.resolve() for path in named.values()}
    for folder in {(out / name).parent for name in named}:
        if folder.resolve() in folders:
            raise DataError(f"{folder}: is a folder of the images; choose another --out")


def _check_new(out: Path, outputs: Mapping[str, dict[str, str]], *, continued: bool) -> None:
    """Make sure that no file is replaced that was not made by an earlier call."""
    for own in outputs.values():
        # A label map without its picture is of an interrupted call.
        for path in [own["picture"]] if continued else own.values():
            if os.path.lexists(out / path):
                raise DataError(
                    f"{out / path}: would be replaced; choose another --out, or allow it with "
                    "--overwrite"
                )


def _check_unchanged(
    named: Mapping[str, Path], kept: Mapping[str, dict[str, Any]], file: Path
) -> None:
    """Make sure that the images predicted before are still the same."""
    for name, image in kept.items():
        if named[name].is_file() and _sha256(named[name]) != image["sha256"]:
            raise DataError(
                f"{named[name]}: is not the {name} that {file} is of; choose another --out, or "
                "--overwrite to start again"
            )


def _annotations(instances: Instances, ids: Sequence[int], path: Path) -> list[dict[str, Any]]:
    records = to_records(0, instances, ids, file=path)
    for record in records:
        record |= {"area": int(coco_mask.area(record["segmentation"])), "iscrowd": 0}
    return records


def _save_png(picture: NDArray[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")


def _fingerprint(model: Segmenter) -> str:
    """A digest of a model's recipe, limits and weights."""
    made = {**model.recipe, "max_detections": model.max_detections, "tile": model.tile}
    digest = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
