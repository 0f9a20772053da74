"""From images and videos to annotated ones and one COCO-format file."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from operator import call
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from tqdm import tqdm

from b2inst.data import DataError, read_image
from b2inst.data.files import locked, replacing
from b2inst.data.images import as_array, file_names, image_suffixes, walk_files
from b2inst.data.wording import BadFileError, shortened
from b2inst.evaluation import to_records
from b2inst.experiments.specs.data_spec import file_sha256
from b2inst.models import Segmenter
from b2inst.ops.ahead import ahead
from b2inst.ops.masks import decode_rle
from b2inst.structures import Instances
from b2inst.viz.draw import Picture, draw_instances, label_map
from b2inst.viz.prediction_file import PredictionFile
from b2inst.viz.video import SUFFIXES, Video, VideoWriter

_MOST_BYTES = 255  # in the name of a file


@dataclass(frozen=True)
class PredictedFiles:
    """Result of :func:`predict_files`."""

    pictures: list[Path]  #: of the images and videos that could be read, in their order
    kept: int  #: number of them from an earlier call
    full: int  #: number of new images and frames with as many instances as the model may find
    detections: int  #: number of detections in ``predictions.json``
    drawn: int  #: number of them that reach the score threshold
    best_score: float  #: highest score of them; 0 if there are none
    bad: list[BadFileError]  #: of each file that could not be read


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
    for path in map(Path, paths):
        if path.is_dir():
            found += _images_in(path, outside, image_suffixes() | (SUFFIXES if videos else set()))
        elif path.exists() or skip_bad:
            found.append(path)
        else:
            raise BadFileError(f"{path}: no such file or folder; correct the path")
    return found


def _images_in(folder: Path, outside: Path | None, suffixes: set[str]) -> list[Path]:
    excluded = None if outside is None else outside.resolve()
    images: list[Path] = []
    others: list[str] = []
    for path in walk_files(folder):
        hidden = any(part.startswith(".") for part in path.parent.relative_to(folder).parts)
        own = excluded != folder.resolve() and excluded in path.resolve().parents
        if path.is_file() and not hidden and not own:
            if path.suffix.lower() in suffixes:
                images.append(path)
            elif not path.name.startswith("."):
                others.append(path.name)
    if not images:
        raise DataError(f"{folder}: no image in this folder; name another")
    if others:
        warnings.warn(
            f"{folder}: files that are not images are ignored: {len(others)} ({shortened(others)})",
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

    docs/data.md describes the files. What an earlier call with the same model, threshold and
    precision has written to the same folder is kept, so that an interrupted call can be repeated;
    missing label maps are added. Files that cannot be read are left out.

    Args:
        model: Model in evaluation mode.
        images: Files, at least one; those with a video's ending (``video.SUFFIXES``) are videos.
        out: Folder to write to.
        folders: Images are named relative to a folder that also contains these.
        category_ids: COCO category id of each label (default: 1, 2, …).
        score_threshold: Lowest ranking score of the instances that are drawn.
        label_maps: Whether to also write a 16-bit PNG of each image and frame
            (``draw.label_map``).
        overwrite: Replace existing files instead of keeping them.
        progress: Show a progress bar.

    Raises:
        DataError: A file would be replaced that was not made by an earlier call, existing
            predictions are of another model, threshold, precision or image, or another process
            predicts into the folder; no file is changed.
        EvaluationError: The model predicts a NaN.
    """
    named = file_names(images, folders=folders)
    sources = {path.parent.resolve() for path in named.values()}
    for folder in {(out / name).parent for name in named}:
        # The next call would predict the pictures.
        if folder.resolve() in sources:
            raise DataError(f"{folder}: contains input images; choose another --out")
    ids = list(category_ids) or list(range(1, model.recipe["num_classes"] + 1))
    head = _head(model, ids, score_threshold)
    busy = DataError(f"{out}: another process predicts into it; wait, or choose another --out")
    with ExitStack() as stack:
        stack.enter_context(locked(out, busy))
        file = PredictionFile(out / "predictions.json", head, overwrite=overwrite)
        named = _named_as_before(named, file)
        new = [name for name in named if name not in file.images]
        pictures, maps = _output_names(named, file.images, label_maps=label_maps)
        # Label maps without their picture are of an interrupted call.
        first = [] if file.images else [path for name, path in maps.items() if not _is_video(name)]
        for path in [] if overwrite else [*(pictures[name] for name in new), *first]:
            if os.path.lexists(out / path):
                raise DataError(
                    f"{out / path}: would be replaced; choose another --out, or allow it with "
                    "--overwrite"
                )
        writer = _Writer(file, named, pictures, maps, ids, score_threshold)
        file.amend = writer.add_label_map
        stack.enter_context(file)
        bar = stack.enter_context(
            tqdm(total=len(new), desc="predict", unit="image", disable=not progress)
        )
        # Also after Ctrl-C, what has been predicted is written before the file is closed.
        written: Any = ahead(call, writer.jobs(model, new, bar, stack), workers=1, most=1)
        counts = stack.enter_context(closing(written))
        full = sum(count >= model.max_detections for count in counts if count is not None)
    return PredictedFiles(
        pictures=[out / pictures[name] for name in named if name not in writer.bad],
        kept=len(named) - len(new),
        full=full,
        detections=file.detections,
        drawn=file.drawn,
        best_score=file.best_score,
        bad=[writer.bad[name] for name in named if name in writer.bad],
    )


def _head(model: Segmenter, ids: Sequence[int], score_threshold: float) -> dict[str, Any]:
    """What a COCO file says of all its predictions."""
    names = model.class_names or tuple(map(str, range(len(ids))))
    made = {"model": _fingerprint(model), "precision": model.precision}
    return {
        "info": made | {"score_threshold": score_threshold},
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    }


def _named_as_before(named: Mapping[str, Path], file: PredictionFile) -> dict[str, Path]:
    """Give images that were predicted before the names of then, which other folders can change.

    They have the same content, and one name is the end of the other. A file that is gone is known
    by its name. DataError: an image has the name of another.
    """
    known, digest = defaultdict(list), cache(file_sha256)
    for name in file.images:
        known[PurePosixPath(name).name].append(name)
    alike = (
        (abs(name.count("/") - earlier.count("/")), name, earlier)
        for name in named
        for earlier in known[PurePosixPath(name).name]
        if f"/{name}".endswith(f"/{earlier}") or f"/{earlier}".endswith(f"/{name}")
    )
    before: dict[str, str] = {}
    taken = set()
    for folders, name, earlier in sorted(alike):  # equal names first
        if name not in before and earlier not in taken:
            path, content = named[name], file.images[earlier]["sha256"]
            if digest(path) == content if path.is_file() else not folders:
                before[name] = earlier
                taken.add(earlier)
    for name, path in named.items():
        if name in file.images and name not in before:
            raise DataError(
                f"{path}: differs from the {name} in {file.path}; choose another --out, or "
                "--overwrite to start again"
            )
    return {before.get(name, name): path for name, path in named.items()}


@dataclass(frozen=True)
class _Writer:
    """Predicts images and frames, and writes what is predicted."""

    file: PredictionFile
    named: Mapping[str, Path]
    pictures: Mapping[str, str]  # by the name of an image or video, relative to the file
    maps: Mapping[str, str]  # label maps or, of videos, their folders
    ids: Sequence[int]
    score_threshold: float
    bad: dict[str, BadFileError] = field(default_factory=dict)  # by name

    def jobs(
        self, model: Segmenter, new: Sequence[str], bar: tqdm, stack: ExitStack
    ) -> Iterator[Callable[[], int | None]]:
        """Calls that write what has just been predicted."""
        for name, opened in zip(new, ahead(self._open, new, workers=2, most=4), strict=True):
            if isinstance(opened, BadFileError):
                self.bad[name] = opened
                bar.update()
                continue
            content, digest = opened
            path = self.file.path.parent / self.pictures[name]
            film = None
            save: Callable[[Picture], None] = partial(_save_png, path=path)
            if isinstance(content, Video):
                bar.total += content.length - 1
                film = VideoWriter(path, content.rate)
                stack.callback(film.discard)
                save = film.write
            for number, array in enumerate(content):
                image: dict[str, Any] = {"file_name": name}
                if film:
                    file_name = f"{name}/{number:06}.png"
                    image = {"file_name": file_name, "video": name, "frame": number}
                image |= {"sha256": digest, "height": array.shape[0], "width": array.shape[1]}
                image["picture"] = self.pictures[name]
                found = model.predict([array])[0].to("cpu")
                yield partial(self._write, name, image, array, found, save)
                bar.update()
            if film:
                yield film.close

    def _open(self, name: str) -> tuple[Iterable[Picture], str] | BadFileError:
        path = self.named[name]
        try:
            content = Video(path) if _is_video(name) else [as_array(read_image(path))]
            return content, file_sha256(path)
        except BadFileError as error:
            return error

    def _write(
        self,
        name: str,
        image: dict[str, Any],
        array: Picture,
        instances: Instances,
        save: Callable[[Picture], None],
    ) -> int:
        """Write an image's entry, label map and picture; the number of its instances."""
        self._save_label_map(image, instances.masks, instances.scores)
        records = to_records(0, instances, self.ids, file=self.named[name])
        areas = [int(coco_mask.area(record["segmentation"])) for record in records]
        pairs = zip(records, areas, strict=True)
        self.file.add(image, [r | {"area": area, "iscrowd": 0} for r, area in pairs])
        save(draw_instances(array, instances, score_threshold=self.score_threshold))
        return len(instances)

    def add_label_map(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Write the label map of an image that was predicted without one."""
        if "label_map" not in image:
            codes = [annotation["segmentation"] for annotation in annotations]
            scores = torch.tensor([annotation["score"] for annotation in annotations])
            masks = decode_rle(codes, (image["height"], image["width"]))
            self._save_label_map(image, masks, scores)

    def _save_label_map(self, image: dict[str, Any], masks: Tensor, scores: Tensor) -> None:
        """Write the label map of an image, if asked for, and note it in its entry."""
        path = self.maps.get(image.get("video", image["file_name"]))
        if path is not None:
            image["label_map"] = f"{path}/{image['frame']:06}.png" if "video" in image else path
            numbers = label_map(masks, scores, score_threshold=self.score_threshold)
            _save_png(numbers, self.file.path.parent / image["label_map"])


def _output_names(
    names: Collection[str], earlier: Mapping[str, Mapping[str, str]], *, label_maps: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Paths of all pictures and of missing label maps, relative to the output folder.

    A number is added to a path that is taken, also if it differs in case only, as some file
    systems do not distinguish it. Names that would be too long for a file are shortened.
    """
    keys = ("picture", "label_map")
    taken = {image[key].casefold() for image in earlier.values() for key in keys if key in image}
    used = (*taken, *map(str.casefold, names))
    taken |= {str(folder) for path in used for folder in PurePosixPath(path).parents}

    def free(path: PurePosixPath, mark: str = "") -> str:
        for number in count(1):
            stem, end = path.stem, f"{mark}{f'-{number}' if number > 1 else ''}{path.suffix}"
            while len(os.fsencode(stem + end)) > _MOST_BYTES:
                stem = stem[:-1]
            unique = str(path.with_name(stem + end))
            if unique.casefold() not in taken:
                break
        taken.add(unique.casefold())
        return unique

    pictures, maps = {}, {}
    for name in names:
        wanted = PurePosixPath(name).with_suffix(".mp4" if _is_video(name) else ".png")
        pictures[name] = earlier[name]["picture"] if name in earlier else free(wanted)
    for name in names if label_maps else ():
        if "label_map" not in earlier.get(name, {}):
            picture = pictures[name]
            path, mark = (f"{picture}_masks", "") if _is_video(name) else (picture, "_masks")
            maps[name] = free(PurePosixPath(path), mark)
    return pictures, maps


def _is_video(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _save_png(picture: NDArray[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")


def _fingerprint(model: Segmenter) -> str:
    """A digest of a model's recipe, limits and weights."""
    limits = {name: getattr(model, name) for name in ("max_detections", "min_score", "tile")}
    made = {**model.recipe, **limits}
    digest = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
