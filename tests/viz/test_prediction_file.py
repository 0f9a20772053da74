from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from b2inst.data import DataError
from b2inst.viz.prediction_file import PredictionFile

HEAD = {
    "info": {"model": "abc", "score_threshold": 0.3},
    "categories": [{"id": 3, "name": "star"}],
}


def add(file: PredictionFile, name: str, *scores: float) -> None:
    boxes: list[dict[str, Any]] = [
        {"category_id": 3, "bbox": [0, 0, 1, 1], "score": score} for score in scores
    ]
    file.add({"file_name": name, "picture": f"{name}.png"}, boxes)
    (file.path.parent / f"{name}.png").touch()


def scores(path: Path) -> dict[str, list[float]]:
    """By file name, as pycocotools reads them."""
    coco = COCO(str(path))
    assert len({a["id"] for a in coco.dataset["annotations"]}) == len(coco.dataset["annotations"])
    return {
        image["file_name"]: [a["score"] for a in coco.imgToAnns[image["id"]]]
        for image in coco.dataset["images"]
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "predictions.json"


def test_images_are_added_to_those_that_are_there(path: Path) -> None:
    with PredictionFile(path, HEAD) as file:
        add(file, "a", 0.9, 0.5)
        add(file, "b")
    assert scores(path) == {"a": [0.9, 0.5], "b": []}
    with PredictionFile(path, HEAD) as file:
        assert list(file.images) == ["a", "b"]
        add(file, "c", 0.7)
    assert scores(path) == {"a": [0.9, 0.5], "b": [], "c": [0.7]}
    assert {k: v for k, v in json.loads(path.read_text()).items() if k in HEAD} == HEAD
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


def test_an_exception_loses_nothing(path: Path) -> None:
    def stopped() -> None:
        with PredictionFile(path, HEAD) as file:
            add(file, "a", 0.9)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert scores(path) == {"a": [0.9]}


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_killed_process_loses_at_most_the_last_image(path: Path, cut: int) -> None:
    with PredictionFile(path, HEAD) as file:
        add(file, "a", 0.9)
    killed = PredictionFile(path, HEAD).__enter__()
    add(killed, "b", 0.8)
    add(killed, "c", 0.7)
    killed._file.close()
    partial = path.with_name(".predictions.json.partial")
    content = partial.read_bytes()
    partial.write_bytes(content[: len(content) - cut])

    with PredictionFile(path, HEAD) as file:
        kept = ["a", "b"] if cut else ["a", "b", "c"]
        assert list(file.images) == kept
        add(file, "d", 0.6)
    assert list(scores(path)) == [*kept, "d"]


def test_a_process_killed_at_once_leaves_nothing_in_the_way(path: Path) -> None:
    path.with_name(".predictions.json.partial").write_text('{"info": {"mod')
    with PredictionFile(path, HEAD) as file:
        add(file, "a", 0.9)
    assert scores(path) == {"a": [0.9]}


def test_an_image_whose_picture_is_gone_is_not_there(path: Path) -> None:
    with PredictionFile(path, HEAD) as file:
        add(file, "a", 0.9)
        add(file, "b", 0.8)
    path.with_name("a.png").unlink()
    with PredictionFile(path, HEAD) as file:
        assert list(file.images) == ["b"]
        add(file, "a", 0.7)
        assert file.images["a"]["id"] == 3
    assert scores(path) == {"b": [0.8], "a": [0.7]}


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_without_images_is_of_any_settings(path: Path, killed: bool) -> None:
    """As a call leaves it that failed at the first image."""
    with PredictionFile(path, HEAD):
        if killed:
            shutil.copy(path.with_name(f".{path.name}.partial"), path.with_name("kept"))
    if killed:
        path.unlink()
        path.with_name("kept").rename(path.with_name(f".{path.name}.partial"))
    other = HEAD | {"info": {"model": "def", "score_threshold": 0.3}}
    with PredictionFile(path, other) as file:
        add(file, "a", 0.9)
    assert scores(path) == {"a": [0.9]}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (HEAD | {"info": {"model": "def", "score_threshold": 0.3}}, "made with other weights"),
        (HEAD | {"info": {"model": "abc", "score_threshold": 0}}, "--threshold 0.3, not 0"),
        (HEAD | {"categories": [{"id": 3, "name": "gear"}]}, "other categories"),
    ],
)
def test_only_the_same_is_continued(path: Path, head: dict[str, Any], message: str) -> None:
    with PredictionFile(path, HEAD) as file:
        add(file, "a", 0.9)
    before = path.read_bytes()
    with pytest.raises(DataError, match=f"{message}.*--overwrite"):
        PredictionFile(path, head)
    PredictionFile(path, HEAD).__enter__()._file.close()  # killed
    with pytest.raises(DataError, match=message):
        PredictionFile(path, head)
    assert path.read_bytes() == before
    with PredictionFile(path, head, overwrite=True) as file:
        add(file, "b", 0.8)
    assert scores(path) == {"b": [0.8]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"images": [], "annotations": [], "categories": []}',
        '{"info": [], "images": [{"id": 1}], "annotations": [], "categories": []}',
        json.dumps(HEAD | {"images": [{"id": 1, "file_name": "a"}], "annotations": []}),
    ],
)
def test_files_of_other_programs_stay_as_they_are(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(
        DataError, match=r"predictions\.json: was not written by b2inst predict.*--out"
    ):
        PredictionFile(path, HEAD)
    assert path.read_text() == content
