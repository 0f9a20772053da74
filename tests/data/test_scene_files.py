from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from b2inst.data import (
    CocoIndex,
    DataError,
    eval_images,
    find_split,
    make_scene,
    scenes,
    write_scenes,
)


def write(root: Path, *, split: str = "train", images: int = 3, seed: int = 4) -> Path:
    return write_scenes(root, split=split, images=images, size=40, seed=seed)


def test_what_is_written_is_what_was_drawn(tmp_path: Path) -> None:
    annotation_file = write(tmp_path)
    assert annotation_file == find_split(tmp_path, "train")[0]
    index = CocoIndex.load(*find_split(tmp_path, "train"))
    assert len(index) == 3
    for i, (record, image) in enumerate(eval_images(index)):
        scene = make_scene((4, i), 40)
        np.testing.assert_array_equal(image, scene.image)
        annotations = index.annotations[record.id]
        assert [a.label for a in annotations] == scene.labels.tolist()
        for annotation, mask in zip(annotations, scene.masks, strict=True):
            np.testing.assert_array_equal(annotation.mask(), mask)
            ys, xs = np.nonzero(mask)
            assert annotation.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert annotation.area == mask.sum()


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    monkeypatch.setattr(scenes, "make_scene", None)
    write(tmp_path / "a")


def test_other_scenes_are_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"contains .*'seed': 4}, not .*'seed': 5}"):
        write(tmp_path, images=4, seed=5)
    assert contents(tmp_path) == before
    write(tmp_path, split="val", seed=5)


def test_other_data_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="other files"):
        write(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match="contains no scenes"):
        write(tmp_path)
    assert (tmp_path / "train" / "holiday.jpg").read_bytes() == b"x"


def test_an_interrupted_call_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seed: tuple[int, int], size: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(scenes, "make_scene", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path)
    assert contents(tmp_path) == {}
    write(tmp_path)


def test_cut_off_between_images_and_annotations(tmp_path: Path) -> None:
    annotation_file = write(tmp_path)
    before = contents(tmp_path)
    annotation_file.unlink()
    write(tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "train" / "000001.png").unlink()  # and a lost image is drawn again
    write(tmp_path)
    assert contents(tmp_path) == before


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"No space left on device\); make room"):
            write(tmp_path)
    assert contents(tmp_path) == {}
