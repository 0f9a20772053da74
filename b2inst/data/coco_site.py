"""What COCO 2017 consists of, and where it lies: https://cocodataset.org/#download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Plain HTTP, as published: the host's certificate is of another name. Checksums tell what came.
SITE = "http://images.cocodataset.org"

IMAGE_NAME = r"\d{12}\.jpg"


@dataclass(frozen=True)
class Archive:
    """A zip of COCO."""

    path: str  #: below the site's address, and below a mirror's
    md5: str  #: COCO publishes no checksums; docs/data.md says where these come from
    size: int | None  #: bytes, where more than one source names them
    unpacked: int  #: bytes that what is taken from it needs at most, disk blocks included
    members: str  #: regular expression of all paths in it

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Split:
    """Images and annotations of a split."""

    name: str  #: of its folder, on the site as here
    images: Archive
    count: int  #: of the images
    annotations: Archive
    annotation_file: str
    annotation_bytes: int | None  #: where more than one source names them

    @property
    def member(self) -> str:
        """Path of the annotation file in its archive, and here."""
        return f"annotations/{self.annotation_file}"


def _images(name: str, *, md5: str, size: int) -> Archive:
    # JPEGs hardly become smaller in a zip: 5 % more is for that and for the blocks of a disk.
    return Archive(
        f"zips/{name}.zip", md5, size, size + size // 20, rf"{name}/|{name}/{IMAGE_NAME}"
    )


_INSTANCES = Archive(
    path="annotations/annotations_trainval2017.zip",
    md5="f4bbac642086de4f52a3fdda2de5fa2c",
    size=252_907_541,
    unpacked=500_000_000,
    members=r"annotations/|annotations/(instances|captions|person_keypoints)_(train|val)2017\.json",
)
_TEST_INFO = Archive(
    path="annotations/image_info_test2017.zip",
    md5="85da7065e5e600ebfee8af1edb634eb5",
    size=None,
    unpacked=50_000_000,
    members=r"annotations/|annotations/image_info_test(-dev)?2017\.json",
)

SPLITS: Mapping[str, Split] = {
    "train": Split(
        name="train2017",
        images=_images(
            "train2017", md5="cced6f7f71b7629ddf16f17bbcfab6b2", size=19_336_861_798
        ),
        count=118_287,
        annotations=_INSTANCES,
        annotation_file="instances_train2017.json",
        annotation_bytes=469_785_474,
    ),
    "val": Split(
        name="val2017",
        images=_images("val2017", md5="442b8da7639aecaf257c1dceb8ba8c80", size=815_585_330),
        count=5_000,
        annotations=_INSTANCES,
        annotation_file="instances_val2017.json",
        annotation_bytes=19_987_840,
    ),
    "test": Split(
        name="test2017",
        images=_images("test2017", md5="77ad2c53ac5d0aea611d422c0938fb35", size=6_646_970_404),
        count=40_670,
        annotations=_TEST_INFO,
        annotation_file="image_info_test-dev2017.json",
        annotation_bytes=None,
    ),
}  # fmt: skip
