"""What is known of COCO 2017, from its site and from what others found in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from b2inst.data.coco_site import IMAGE_NAME, SITE, SPLITS

MEMBERS = {  # of each archive, as far as they are not images
    "annotations_trainval2017.zip": [
        f"annotations/{kind}_{split}2017.json"
        for kind in ("instances", "captions", "person_keypoints")
        for split in ("train", "val")
    ],
    "image_info_test2017.zip": [
        "annotations/image_info_test2017.json",
        "annotations/image_info_test-dev2017.json",
    ],
    "train2017.zip": ["train2017/", "train2017/000000391895.jpg"],
    "val2017.zip": ["val2017/", "val2017/000000000139.jpg"],
    "test2017.zip": ["test2017/", "test2017/000000000001.jpg"],
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())
def test_addresses_members_and_layout(split) -> None:
    assert f"{SITE}/{split.images.path}" == (f"http://images.cocodataset.org/zips/{split.name}.zip")
    for archive in (split.images, split.annotations):
        members = MEMBERS[archive.name]
        assert all(re.fullmatch(archive.members, name) for name in members)
        for other in {name for names in MEMBERS.values() for name in names} - set(members):
            assert not re.fullmatch(archive.members, other) or other == "annotations/"
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
    assert split.member in MEMBERS[split.annotations.name]
    assert split.images.unpacked > split.images.size
    assert split.annotations.unpacked > (split.annotation_bytes or 0)


def test_images_are_named_so(coco_tiny: Path) -> None:
    for folder in ("train2017", "val2017"):
        names = [path.name for path in (coco_tiny / folder).iterdir()]
        assert names
        assert all(re.fullmatch(IMAGE_NAME, name) for name in names)
