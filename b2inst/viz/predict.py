"""From images and videos to annotated ones and one COCO-format file."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from operator import call
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data import DataError, read_image
from b2inst.data.files import replacing
from b2inst.data.images import as_array, file_names, image_suffixes
from b2inst.data.wording import shortened
from b2inst.evaluation import to_records
from b2inst.experiments.specs.data_spec import file_sha256
from b2inst.models import Segmenter
from b2inst.ops.ahead import ahead
from b2inst.ops.masks import decode_rle
from b2inst.structures import Instances
from b2inst.viz.draw import Picture, draw_instances, label_map
from b2inst.viz.prediction_file import PredictionFile
from b2inst.viz.video import SUFFIXES, Video, VideoWriter


@dataclass(frozen=True)
class PredictedFiles:
    """Result of :func:`predict_files`."""

    pictures: list[Path]  #: of the images and videos that could be read, in their order
    kept: int  #: number of them from an earlier call
    full: int  #: number of new images and frames with as many instances as the model may find
    detections: int  #: number of detections in ``predictions.json``
    drawn: int  #: number of them that reach the score threshold
    best_score: float  #: highest score of them; 0 if there are none
    bad: list[str]  #: a line for each file that could not be read


def find_images(
    paths: Iterable[str | Path],
    *,
    videos: bool = False,
    outside: Path | None = None,
    skip_bad: bool = False,
) -> list[Path]:
    """List the given files, and the image files in the given folders and their subfolders, sorted.

    Hidden folders and links that lead nowhere are left out, and with a warning other files.

    Args:
        paths: Files and folders.
        videos: Whether to list video files in folders too.
        outside: Folder whose files are left out if it is in one of the given folders.
        skip_bad: Whether to list given files that do not exist instead of raising an error.

    Raises:
        DataError: A folder contains no image, or there is no such file.
    """
    found: list[Path] = []
    suffixes = image_suffixes() | (SUFFIXES if videos else set())
    for path in map(Path, paths):
        if path.is_dir():
            found += _images_in(path, outside, suffixes)
        elif path.exists() or skip_bad:
            found.append(path)
        else:
            raise DataError(
                f"{path}: no such file or folder; correct the path, or skip it with --skip-bad"
            )
    return found


def _images_in(folder: Path, outside: Path | None, suffixes: set[str]) -> list[Path]:
    excluded = None if outside is None else outside.resolve()
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.parent.relative_to(folder).parts)
        own = excluded != folder.resolve() and excluded in path.resolve().parents
        if path.is_file() and not hidden and not own:
            (images if path.suffix.lower() in suffixes else others).append(path)
    if not images:
        raise DataError(f"{folder}: no image in this folder; name another")
    if names := [path.name for path in others if not path.name.startswith(".")]:
        warnings.warn(
            f"{folder}: files that are not images are ignored: {len(names)} ({shortened(names)})",
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
    """Predict image and video files; write a picture of each, and ``predictions.json`` for all.

    The JSON is a COCO annotation file of its own: ``images``, ``categories``, and ``annotations``
    with a ``score`` each (and ``class_score``, ``iou_score``, ``boundary_score``, if predicted),
    all detections whatever their score. Pictures have the names of the images, with the ending
    ``.png`` and a number if two would have the same; ``picture`` in ``images`` says which it is,
    and ``label_map`` likewise. Each frame of a video is an image ``VIDEO/000000.png`` with
    ``video`` and ``frame``, its number from 0; its picture is an MPEG-4 video of all frames.

    Files that an earlier call with the same model, threshold and precision has predicted into the
    same folder are kept, so that an interrupted call can be repeated; missing label maps are
    added. Files that cannot be read are left out.

    Args:
        model: Model in evaluation mode.
        images: Files, at least one; those with a video's ending (``video.SUFFIXES``) are videos.
        out: Folder to write to.
        folders: Images are named relative to a folder that also contains these.
        category_ids: COCO category id of each label (default: 1, 2, …).
        score_threshold: Lowest ranking score of the instances that are drawn.
        label_maps: Whether to also write a 16-bit PNG of each image and frame
            (``draw.label_map``), under the picture's name with ``_masks`` added; those of a video
            are ``VIDEO.mp4_masks/000000.png``.
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
    head = _head(model, ids, score_threshold)
    file = PredictionFile(out / "predictions.json", head, overwrite=overwrite)
    kept = {name: image for name, image in file.images.items() if name in named}
    _check_unchanged(named, kept, file.path)
    new = [name for name in named if name not in kept]
    pictures, maps = _output_names(new, file.images, named if label_maps else ())
    if not overwrite:
        # Label maps without their picture are of an interrupted call.
        first = [] if file.images else [path for name, path in maps.items() if not _is_video(name)]
        _check_new(out, [*pictures.values(), *first])
    writer = _Writer(file, named, pictures, maps, ids, score_threshold)
    file.amend = writer.add_label_map
    bad: dict[str, str] = {}
    with file, ExitStack() as stack:
        jobs = _predict(model, writer, new, bad, stack, progress=progress)
        # Also after Ctrl-C, what has been predicted is written before the file is closed.
        written: Any = ahead(call, jobs, workers=1, most=1)
        counts = stack.enter_context(closing(written))
        full = sum(count >= model.max_detections for count in counts if count is not None)
    pictures |= {name: image["picture"] for name, image in kept.items()}
    return PredictedFiles(
        pictures=[out / pictures[name] for name in named if name not in bad],
        kept=len(kept),
        full=full,
        detections=file.detections,
        drawn=file.drawn,
        best_score=file.best_score,
        bad=[bad[name] for name in named if name in bad],
    )


@dataclass(frozen=True)
class _Writer:
    """Writes what is predicted for images and frames."""

    file: PredictionFile
    named: Mapping[str, Path]
    pictures: Mapping[str, str]  # by the name of a new image or video, relative to the file
    maps: Mapping[str, str]  # label maps or, of videos, their folders
    ids: Sequence[int]
    score_threshold: float

    def path(self, name: str) -> Path:
        """Where the picture of an image, or the video, is written."""
        return self.file.path.parent / self.pictures[name]

    def write(
        self,
        image: dict[str, Any],
        array: Picture,
        instances: Instances,
        save: Callable[[Picture], None],
    ) -> int:
        """Write an image's entry, label map and picture; the number of its instances."""
        name = image.get("video", image["file_name"])
        size = {"height": array.shape[0], "width": array.shape[1]}
        image = {**image, **size, "picture": self.pictures[name]}
        self._save_label_map(image, instances)
        self.file.add(image, _annotations(instances, self.ids, self.named[name]))
        save(draw_instances(array, instances, score_threshold=self.score_threshold))
        return len(instances)

    def add_label_map(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Write the label map of an image that was predicted without one."""
        if "label_map" not in image:
            codes = [annotation["segmentation"] for annotation in annotations]
            scores = torch.tensor([annotation["score"] for annotation in annotations])
            masks = decode_rle(codes, (image["height"], image["width"]))
            boxes, labels = torch.zeros(len(codes), 4), torch.zeros(len(codes), dtype=torch.int64)
            self._save_label_map(image, Instances(boxes, scores, scores, labels, masks))

    def _save_label_map(self, image: dict[str, Any], instances: Instances) -> None:
        """Write the label map of an image, if asked for, and note it in its entry."""
        path = self.maps.get(image.get("video", image["file_name"]))
        if path is not None:
            image["label_map"] = f"{path}/{image['frame']:06}.png" if "video" in image else path
            numbers = label_map(instances, score_threshold=self.score_threshold)
            _save_png(numbers, self.file.path.parent / image["label_map"])


def _predict(
    model: Segmenter,
    writer: _Writer,
    new: Sequence[str],
    bad: dict[str, str],
    stack: ExitStack,
    *,
    progress: bool,
) -> Iterator[Callable[[], int | None]]:
    """Calls that write what has just been predicted; errors are noted in ``bad``."""

    def read(name: str) -> tuple[Picture | Video, str] | DataError:
        path = writer.named[name]
        try:
            content = Video.open(path) if _is_video(name) else as_array(read_image(path))
            return content, file_sha256(path)
        except DataError as error:
            return error

    bar = stack.enter_context(
        tqdm(total=len(new), desc="predict", unit="image", disable=not progress)
    )
    for name, opened in zip(new, ahead(read, new, workers=2, most=4), strict=True):
        if isinstance(opened, DataError):
            bad[name] = str(opened)
            bar.update()
            continue
        image: dict[str, Any]
        content, digest = opened
        if isinstance(content, Video):
            bar.total += content.length - 1
            film = VideoWriter(writer.path(name), content.rate)
            stack.callback(film.discard)
            for number, frame in enumerate(content):
                image = {"file_name": f"{name}/{number:06}.png", "video": name, "frame": number}
                image["sha256"] = digest
                yield partial(writer.write, image, frame, _instances(model, frame), film.write)
                bar.update()
            yield film.close
        else:
            image = {"file_name": name, "sha256": digest}
            save = partial(_save_png, path=writer.path(name))
            yield partial(writer.write, image, content, _instances(model, content), save)
            bar.update()


def _instances(model: Segmenter, picture: Picture) -> Instances:
    return model.predict([picture])[0].to("cpu")


def _head(model: Segmenter, ids: Sequence[int], score_threshold: float) -> dict[str, Any]:
    names = model.class_names or tuple(map(str, range(model.recipe["num_classes"])))
    return {
        "info": {
            "model": _fingerprint(model),
            "precision": model.precision,
            "score_threshold": score_threshold,
        },
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    }


def _output_names(
    new: Iterable[str], earlier: Mapping[str, Mapping[str, str]], mapped: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Paths of new pictures and of missing label maps, relative to the output folder.

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

    pictures, maps = {}, {}
    for name in new:
        ending = ".mp4" if _is_video(name) else ".png"
        pictures[name] = free(PurePosixPath(name).with_suffix(ending))
    for name in mapped:
        if "label_map" not in earlier.get(name, {}):
            picture = PurePosixPath(pictures.get(name) or earlier[name]["picture"])
            # No picture has the name of a video's folder.
            folder, map_ = f"{picture}_masks", picture.with_stem(f"{picture.stem}_masks")
            maps[name] = folder if _is_video(name) else free(map_)
    return pictures, maps


def _is_video(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _check_folders(named: Mapping[str, Path], out: Path) -> None:
    """Make sure that pictures are not written among images, where the next call would find them."""
    folders = {path.parent.resolve() for path in named.values()}
    for folder in {(out / name).parent for name in named}:
        if folder.resolve() in folders:
            raise DataError(f"{folder}: is a folder of the images; choose another --out")


def _check_new(out: Path, paths: Iterable[str]) -> None:
    """Make sure that no file is replaced that was not made by an earlier call."""
    for path in paths:
        if os.path.lexists(out / path):
            raise DataError(
                f"{out / path}: would be replaced; choose another --out, or allow it with "
                "--overwrite"
            )


def _check_unchanged(named: Mapping[str, Path], kept: Mapping[str, Any], file: Path) -> None:
    """Make sure that the images predicted before are still the same."""
    for name, image in kept.items():
        if named[name].is_file() and file_sha256(named[name]) != image["sha256"]:
            raise DataError(
                f"{named[name]}: is not the {name} that {file} is of; choose another --out, or "
                "--overwrite to start again"
            )


def _annotations(instances: Instances, ids: Sequence[int], path: Path) -> list[dict[str, Any]]:
    records = to_records(0, instances, ids, file=path)
    return [r | {"area": int(coco_mask.area(r["segmentation"])), "iscrowd": 0} for r in records]


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
