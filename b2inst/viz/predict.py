"""From image and video files to annotated ones and one COCO-format file."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from operator import call
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data import DataError, read_image
from b2inst.data.images import Bytes, as_array, file_names, image_suffixes
from b2inst.data.validation import shortened
from b2inst.evaluation import to_records
from b2inst.models import Segmenter
from b2inst.ops.ahead import ahead
from b2inst.ops.masks import code_windows
from b2inst.structures import Instances
from b2inst.viz.draw import draw_instances, label_map
from b2inst.viz.prediction_file import PredictionFile
from b2inst.viz.video import SUFFIXES, Video, VideoWriter


@dataclass(frozen=True)
class PredictedFiles:
    """What :func:`predict_files` has done."""

    pictures: list[Path]  #: of the images and videos that could be read, in their order
    kept: int  #: how many of them an earlier call had made
    full: int  #: in how many other images and frames the model found as many as it may
    detections: int  #: number of detections in ``predictions.json``
    drawn: int  #: how many of them reach the score threshold
    best_score: float  #: highest score of them; 0 if there are none
    bad: list[str]  #: a line for each file that could not be read


def find_images(
    paths: Iterable[str | Path],
    *,
    videos: bool = False,
    outside: Path | None = None,
    skip_bad: bool = False,
) -> list[Path]:
    """The given files, and the image files in the given folders and their subfolders, sorted.

    Hidden folders and links that lead nowhere are passed over, and with a warning other files.

    Args:
        videos: take video files of the folders too.
        outside: a folder whose files are passed over where it lies in one of the given folders.
        skip_bad: do not raise for a given file that does not exist.

    Raises:
        DataError: a folder has no image in it, or there is no such file.
    """
    found: list[Path] = []
    suffixes = image_suffixes() | (SUFFIXES if videos else set())
    for path in map(Path, paths):
        if path.is_dir():
            files = [p for p in _walk(path, outside) if p.is_file()]
            inside = [p for p in files if p.suffix.lower() in suffixes]
            if not inside:
                raise DataError(f"{path}: no image in this folder; name another")
            found += inside
            known = {*inside}
            if others := [p.name for p in files if p not in known and not p.name.startswith(".")]:
                warnings.warn(
                    f"{path}: files that are not images are ignored: {len(others)} "
                    f"({shortened(others)})",
                    stacklevel=2,
                )
        elif path.exists() or skip_bad:
            found.append(path)
        else:
            raise DataError(
                f"{path}: no such file or folder; correct the path, or skip it with --skip-bad"
            )
    return found


def _walk(folder: Path, outside: Path | None) -> list[Path]:
    """What lies in a folder, sorted, without hidden folders and another folder below."""
    except_for = None if outside is None else outside.resolve()
    paths = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [
            f for f in folders if not f.startswith(".") and (here / f).resolve() != except_for
        ]
        paths += [here / name for name in names]
    return sorted(paths)


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
    """Predict image and video files; write a picture of each, and ``predictions.json`` for all.

    The JSON is a COCO annotation file of its own: ``images`` with the names that
    :func:`file_names` gives, ``categories``, and ``annotations`` with a ``score`` each (and
    ``class_score``, ``iou_score``, ``boundary_score``, where predicted), all detections whatever
    their score. Pictures have the names of the images, with the ending ``.png`` and a number where
    two would have the same; ``picture`` in ``images`` says which it is, and ``label_map`` likewise.

    Each frame of a video is an image ``VIDEO/000000.png`` of the JSON, with ``video`` and
    ``frame``, its number from 0; the picture is an MPEG-4 video of all. Frames are predicted one at
    a time.

    Files that an earlier call has predicted into the same folder are kept, with the same model,
    threshold and precision only; an interrupted call can thus be repeated. Label maps are added to
    them from the stored masks. Files that cannot be read are passed over.

    Args:
        model: in evaluation mode.
        images: files, at least one; those of a video's ending (``video.SUFFIXES``) are videos.
        out: folder to write to.
        folders: images are named relative to a folder that also holds these.
        category_ids: COCO category id of each label (default: 1, 2, …).
        score_threshold: detections with a lower ranking score are not drawn.
        label_maps: also write a 16-bit PNG of each image and frame (``draw.label_map``), under the
            picture's name with ``_masks`` added; of a video ``VIDEO.mp4_masks/000000.png``.
        overwrite: replace what is there instead of keeping it.
        progress: show a progress bar.

    Raises:
        DataError: a file would be replaced that is an input or was not made by an earlier call,
            or what is there is of another model, threshold, precision or image; nothing is written
            then.
        EvaluationError: the model predicts a NaN.
    """
    named = file_names(images, folders=folders)
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
    keys = ("picture", "label_map")
    taken = [image[key] for image in file.images.values() for key in keys if key in image]
    pictures = picture_names(new, taken)
    _check_pictures(named, [out / picture for picture in pictures.values()], overwrite)
    without_map = {n: i["picture"] for n, i in kept.items() if "label_map" not in i}
    maps = _map_names(pictures | without_map, taken) if label_maps else {}
    if not file.images:  # else those without a picture are of an interrupted call
        _check_pictures(named, [out / maps[n] for n in maps if not _is_video(n)], overwrite)
    _check_unchanged(named, kept, file.path)
    pictures |= {name: image["picture"] for name, image in kept.items()}
    bad: dict[str, str] = {}

    def read(name: str) -> tuple[str, Bytes | Video, str] | None:
        path = named[name]
        try:
            content = Video.open(path) if _is_video(name) else as_array(read_image(path))
            return name, content, _sha256(path)
        except DataError as error:
            bad[name] = str(error)
            return None

    def jobs(stack: ExitStack) -> Iterator[Callable[[], bool | None]]:
        """What there is to write, as it is predicted."""
        bar = tqdm(total=len(new), desc="predict", unit="image", disable=not progress)
        stack.callback(bar.close)
        for found in ahead(read, new, workers=2, most=4):
            if found is None:
                bar.update()
                continue
            name, content, digest = found
            image: dict[str, Any] = {"picture": pictures[name], "sha256": digest}
            if isinstance(content, Video):
                bar.total += content.length - 1
                writer = VideoWriter(out / pictures[name], content.rate)
                stack.callback(writer.discard)
                for number, frame in enumerate(content):
                    file_name = f"{number:06}.png"
                    image |= {"file_name": f"{name}/{file_name}", "video": name, "frame": number}
                    if maps:
                        image["label_map"] = f"{maps[name]}/{file_name}"
                    instances = model.predict([frame])[0]
                    yield partial(write, image.copy(), frame, instances, writer.write)
                    bar.update()
                yield writer.close
            else:
                image["file_name"] = name
                if maps:
                    image["label_map"] = maps[name]
                save = partial(_save, path=out / pictures[name])
                yield partial(write, image, content, model.predict([content])[0], save)
                bar.update()

    def write(
        image: dict[str, Any], array: Bytes, instances: Instances, save: Callable[[Bytes], None]
    ) -> bool:
        instances, image_id = instances.to("cpu"), file.next_image_id
        size = {"height": array.shape[0], "width": array.shape[1]}
        path = named[image.get("video", image["file_name"])]
        annotations = _annotations(image_id, instances, ids, path)
        file.add({"id": image_id, "file_name": image["file_name"]} | size | image, annotations)
        windows = code_windows([annotation["segmentation"] for annotation in annotations])
        if "label_map" in image:
            numbers = label_map(instances, score_threshold=score_threshold, windows=windows)
            _save(numbers, out / image["label_map"])
        save(draw_instances(array, instances, score_threshold=score_threshold, windows=windows))
        return len(instances) >= model.max_detections

    def add_map(image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Draw the label map of an image that an earlier call predicted without one."""
        path = maps.get(image.get("video", image["file_name"]))
        if path is None or "label_map" in image:
            return
        image["label_map"] = f"{path}/{image['frame']:06}.png" if "video" in image else path
        instances = _instances(annotations, (image["height"], image["width"]))
        _save(label_map(instances, score_threshold=score_threshold), out / image["label_map"])

    file.amend = add_map
    # One thread writes, image by image, and neither ``sum`` nor ``filter`` has code of its own that
    # Ctrl-C could stop before the thread is done with what has been predicted.
    with file, ExitStack() as stack:
        full = sum(filter(None, ahead(call, jobs(stack), workers=1, most=1)))
    return PredictedFiles(
        pictures=[out / pictures[name] for name in named if name not in bad],
        kept=len(kept),
        full=full,
        detections=file.detections,
        drawn=file.drawn,
        best_score=file.best_score,
        bad=[bad[name] for name in named if name in bad],
    )


def picture_names(images: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """A picture for each image and a video for each video, relative to their folders.

    It is called as the image but ``.png`` (``.mp4``), with a number where that is taken, be it in
    capitals or with composed accents, which some file systems do not tell apart.
    """
    pictures: dict[str, str] = {}
    used = {_folded(picture) for picture in taken}
    for image in images:
        plain = PurePosixPath(image).with_suffix(".mp4" if _is_video(image) else ".png")
        picture, number = plain, 1
        while _folded(str(picture)) in used:
            number += 1
            picture = plain.with_stem(f"{plain.stem}-{number}")
        pictures[image] = str(picture)
        used.add(_folded(str(picture)))
    return pictures


def _map_names(pictures: Mapping[str, str], taken: Iterable[str]) -> dict[str, str]:
    """The label map of each image, named after its picture; of a video, a folder of them."""
    maps = {n: f"{p}_masks" if _is_video(n) else f"{p[:-4]}_masks.png" for n, p in pictures.items()}
    # None of a video needs another name, since no picture is called so.
    free = picture_names(
        (m for m in maps.values() if m.endswith(".png")), [*taken, *pictures.values()]
    )
    return {name: free.get(path, path) for name, path in maps.items()}


def _is_video(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


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


def _instances(annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> Instances:
    """Masks and scores of annotations as instances; their boxes and labels are zero."""
    count = len(annotations)
    masks = np.zeros((*size, 0), np.uint8)
    if count:
        masks = coco_mask.decode([annotation["segmentation"] for annotation in annotations])
    scores = torch.tensor([annotation["score"] for annotation in annotations])
    return Instances(
        boxes=torch.zeros(count, 4),
        scores=scores,
        class_scores=scores,
        labels=torch.zeros(count, dtype=torch.int64),
        masks=torch.from_numpy(masks).permute(2, 0, 1).bool(),
    )


def _save(picture: NDArray[Any], path: Path) -> None:
    """Write a picture so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(".picture.partial")
    try:
        Image.fromarray(picture).save(unfinished, format="PNG")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


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
