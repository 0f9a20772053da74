"""Fetching a few images of COCO's val2017, one by one, as a small COCO-format folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from b2inst.data.archives import read_member
from b2inst.data.coco_fetch import (
    address,
    check_space,
    fetch_archive,
    still_to_come,
    told_of_the_disk,
)
from b2inst.data.coco_folder import (
    fetching_into,
    has_all_images,
    has_annotations,
    marked,
    refuse_other_data,
    subset_size,
)
from b2inst.data.coco_site import IMAGE_NAME, SITE, SPLITS, Split
from b2inst.data.download import download
from b2inst.data.errors import DataError
from b2inst.data.images import probe_image

_CONNECTIONS = 8
_IMAGE_BYTES = 250_000  # more than one takes on average


def fetch_coco_subset(
    root: Path | str,
    images: int,
    *,
    mirror: str = SITE,
    keep_zips: bool = False,
    progress: bool = True,
    site: Mapping[str, Split] = SPLITS,
) -> Path:
    """Fetch the first ``images`` of ``val2017`` by id that have an instance (crowds do not count).

    A larger subset contains the smaller ones and extends them. The whole split, where it is
    there, holds every subset and stays as it is. The annotation file is written last.

    Args:
        mirror: address below which the files lie as on COCO's own site.
        keep_zips: leave the archive of annotations in ``root``, for a later, larger subset.

    Returns:
        The annotation file.

    Raises:
        DataError: as ``fetch_coco``; or there are fewer such images, or only the whole
            annotations are there, which are never reduced.
    """
    root, base, split = Path(root), address(mirror), site["val"]
    file, folder = root / split.member, root / split.name
    with told_of_the_disk(root), fetching_into(root):
        if has_annotations(root, split):
            if has_all_images(root, split):
                return file
            raise DataError(
                f"{file}: is COCO's whole annotation file, which a subset would reduce; complete "
                "it by --splits val, or choose another folder"
            )
        refuse_other_data(root, split)
        there = subset_size(file) or 0
        if there >= images and _has_its_images(file, folder):
            return file
        images = max(images, there)
        check_space(root, still_to_come(root, [split.annotations]) + images * _IMAGE_BYTES)
        archive = fetch_archive(root, split.annotations, base, progress)
        limit, known = split.annotations.unpacked, split.annotations.members
        content = json.loads(read_member(archive, path=split.member, known=known, limit=limit))
        content = reduce(content, images)
        folder.mkdir(exist_ok=True)
        _fetch_images(f"{base}/{split.name}", folder, content["images"], progress)
        file.parent.mkdir(exist_ok=True)
        partial = file.with_suffix(".json.partial")
        partial.write_text(json.dumps(content))
        partial.replace(file)
        if not keep_zips:
            archive.unlink()
    return file


def _has_its_images(file: Path, folder: Path) -> bool:
    records = json.loads(file.read_bytes())["images"]
    return all((folder / record["file_name"]).exists() for record in records)


def reduce(content: dict[str, Any], images: int) -> dict[str, Any]:
    """The content of an annotation file for only the first images by id that have an instance.

    Raises:
        DataError: there are fewer.
    """
    with_instance = {a["image_id"] for a in content["annotations"] if not a["iscrowd"]}
    if len(with_instance) < images:
        raise DataError(
            f"--subset {images}: only {len(with_instance)} images have objects; "
            "--splits val fetches all of them"
        )
    chosen = set(sorted(with_instance)[:images])
    part = {
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in chosen],
    }
    return marked(content | part, images)


def _fetch_images(base: str, folder: Path, records: list[Any], progress: bool) -> None:
    def fetch(record: Any) -> None:
        name, size = record["file_name"], (record["height"], record["width"])
        if not re.fullmatch(IMAGE_NAME, name):
            raise DataError(f"{base}: no image of COCO is named {name!r}")
        if not (folder / name).exists():
            _fetch_image(f"{base}/{name}", folder / name, size)

    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        fetched = pool.map(fetch, records)
        for _ in tqdm(fetched, desc=folder.name, total=len(records), disable=not progress):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_image(url: str, target: Path, size: tuple[int, int]) -> None:
    """``size``: (height, width) that the annotations are for."""
    download(url, target)
    try:
        found = probe_image(target)
    except DataError:
        found = (0, 0)
    if found != size:
        target.unlink()
        raise DataError(
            f"{url}: is not the image of {size[1]}×{size[0]} pixels that the annotations are for; "
            "fetch from another --mirror"
        )
