from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.data import DataError, find_split, find_splits


def test_layout_of_coco(content, write, tmp_path: Path) -> None:
    annotation_file, image_dir = write(content)
    assert find_splits(tmp_path) == ["val"]
    assert find_split(tmp_path, "val") == (annotation_file, image_dir)
    with pytest.raises(DataError, match=r"instances_train.json.*splits found: val"):
        find_split(tmp_path, "train")
    image_dir.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no such folder"):
        find_split(tmp_path, "val")
