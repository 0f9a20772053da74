from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from b2inst.data import CocoIndex, DataError, check_coco, fetch_coco, fetch_coco_subset, find_split

ANNOTATIONS = "/annotations/annotations_trainval2017.zip"


def fetch(root: Path, site: Any, images: int, **options: Any) -> Path:
    return fetch_coco_subset(
        root, images, mirror=site.web.address, site=site.splits, progress=False, **options
    )


def fetch_whole(root: Path, site: Any) -> None:
    fetch_coco(root, splits=["val"], mirror=site.web.address, site=site.splits, progress=False)


def image(number: int) -> str:
    return f"{number:012d}.jpg"


def images(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "val2017").iterdir())


def paths(site: Any) -> set[str]:
    return {path for path, _ in site.web.requests}


def test_a_subset_is_a_coco_folder(tmp_path: Path, site: Any) -> None:
    file = fetch(tmp_path, site, 3)
    assert file == tmp_path / "annotations" / "instances_val2017.json"
    # Image 2 has nothing and image 4 only a crowd.
    assert images(tmp_path) == [image(1), image(3), image(5)]
    assert paths(site) == {ANNOTATIONS} | {f"/val2017/{image(k)}" for k in (1, 3, 5)}
    report = check_coco(tmp_path, progress=False)
    assert report.ok
    assert (report.images, report.annotations) == (3, 6)
    index = CocoIndex.load(*find_split(tmp_path, "val2017"))
    assert {record.path.read_bytes() for record in index.images} == {
        site.images["val2017"][image(k)] for k in (1, 3, 5)
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "annotations", "val2017"]


def test_it_holds_what_the_whole_says_of_its_images(tmp_path: Path, site: Any) -> None:
    whole = tmp_path / "whole.json"
    whole.write_bytes(site.annotations["annotations/instances_val2017.json"])
    oracle, ours = COCO(str(whole)), COCO(str(fetch(tmp_path, site, 2)))
    assert sorted(ours.getImgIds()) == [1, 3]
    assert ours.loadImgs([1, 3]) == oracle.loadImgs([1, 3])
    assert ours.imgToAnns == {k: oracle.imgToAnns[k] for k in (1, 3)}
    assert ours.cats == oracle.cats


def test_a_larger_subset_extends_it_and_a_smaller_one_leaves_it(tmp_path: Path, site: Any) -> None:
    file = fetch(tmp_path, site, 2)
    site.web.reset()
    fetch(tmp_path, site, 3)
    assert paths(site) == {ANNOTATIONS, f"/val2017/{image(5)}"}
    assert images(tmp_path) == [image(1), image(3), image(5)]
    content = file.read_bytes()
    site.web.reset()
    for number in (3, 1):
        fetch(tmp_path, site, number)
    assert paths(site) == set()
    assert file.read_bytes() == content


def test_a_lost_image_comes_back(tmp_path: Path, site: Any) -> None:
    file = fetch(tmp_path, site, 3, keep_zips=True)
    content = file.read_bytes()
    (tmp_path / "val2017" / image(3)).unlink()
    site.web.reset()
    fetch(tmp_path, site, 1)
    assert paths(site) == {f"/val2017/{image(3)}"}
    assert file.read_bytes() == content


def test_the_whole_after_a_subset(tmp_path: Path, site: Any) -> None:
    fetch(tmp_path, site, 2)
    fetch_whole(tmp_path, site)
    assert images(tmp_path) == sorted(site.images["val2017"])
    file = tmp_path / "annotations" / "instances_val2017.json"
    assert file.read_bytes() == site.annotations["annotations/instances_val2017.json"]


def test_a_subset_after_the_whole(tmp_path: Path, site: Any) -> None:
    fetch_whole(tmp_path, site)
    site.web.reset()
    file = fetch(tmp_path, site, 2)
    assert paths(site) == set()
    assert file.read_bytes() == site.annotations["annotations/instances_val2017.json"]


def test_whole_annotations_without_all_images_are_not_reduced(tmp_path: Path, site: Any) -> None:
    file = tmp_path / "annotations" / "instances_val2017.json"
    file.parent.mkdir()
    file.write_bytes(site.annotations["annotations/instances_val2017.json"])
    with pytest.raises(DataError, match="which a subset would reduce; complete it by --splits val"):
        fetch(tmp_path, site, 2)
    fetch_whole(tmp_path, site)
    assert ANNOTATIONS not in paths(site)


def test_annotations_of_others_are_left_alone(tmp_path: Path, site: Any) -> None:
    file = tmp_path / "annotations" / "instances_val2017.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    content = file.read_bytes()
    with pytest.raises(DataError, match="move it away"):
        fetch(tmp_path, site, 2)
    assert file.read_bytes() == content


def test_interrupted_it_leaves_what_was_there(tmp_path: Path, site: Any) -> None:
    file = fetch(tmp_path, site, 1)
    content = file.read_bytes()
    folder = tmp_path / "val2017"
    site.web.acts.extend([{}, {"interrupt": lambda: len([*folder.glob("*.jpg")]) == 2}])
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, site, 3)
    assert file.read_bytes() == content
    site.web.reset()
    fetch(tmp_path, site, 3)
    assert ANNOTATIONS not in paths(site)
    assert images(tmp_path) == [image(1), image(3), image(5)]
    assert check_coco(tmp_path, progress=False).ok


@pytest.mark.parametrize("body", [b"no image", None])
def test_an_image_that_is_another(body: bytes | None, tmp_path: Path, site: Any) -> None:
    if body is None:
        body = site.images["val2017"][image(1)][:-100]  # cut short, and the server knows no better
    site.web.files[f"/val2017/{image(3)}"] = body
    with pytest.raises(DataError, match=r"3\.jpg: is not the image of 30×20 pixels"):
        fetch(tmp_path, site, 2)
    assert not (tmp_path / "annotations").exists()
    assert image(3) not in images(tmp_path)


def test_a_mirror_without_single_images(tmp_path: Path, site: Any) -> None:
    del site.web.files[f"/val2017/{image(3)}"]
    with pytest.raises(DataError, match=r"val2017/000000000003\.jpg: HTTP 404"):
        fetch(tmp_path, site, 2)


def test_there_are_no_more(tmp_path: Path, site: Any) -> None:
    with pytest.raises(DataError, match="--subset 5: only 4 images have objects"):
        fetch(tmp_path, site, 5)
