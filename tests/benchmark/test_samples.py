from __future__ import annotations

from pathlib import Path

import numpy as np

from b2inst.benchmark import composed_samples, index_samples
from b2inst.data import CocoIndex, write_scenes


def test_composed_images_have_real_sizes_and_objects() -> None:
    samples = composed_samples(6)
    sides = []
    for sample in samples:
        height, width, channels = sample.image.shape
        assert (channels, sample.image.dtype) == (3, np.uint8)
        assert max(height, width) in (500, 640)
        assert (sample.image.reshape(-1, 3).std(0) > 5).all()
        x1, y1, x2, y2 = sample.boxes.T
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 > x1).all()
        assert (x2 <= width).all()
        assert (y2 > y1).all()
        assert (y2 <= height).all()
        sides += np.sqrt((x2 - x1) * (y2 - y1)).tolist()
    assert len({sample.image.shape for sample in samples}) > 1
    assert 50 < np.median(sides) < 250
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.boxes, b.boxes)
        for a, b in zip(samples, composed_samples(3), strict=False)
    )


def test_images_come_again_where_there_are_too_few(tmp_path: Path) -> None:
    file = write_scenes(tmp_path, split="val", images=4, size=48, seed=0)
    index = CocoIndex.load(file, tmp_path / "val")
    truth = [[a.box for a in index.annotations[image.id]] for image in index.images]
    two = index_samples(index, 2)
    assert [sample.boxes.tolist() for sample in two] == [
        np.array(truth[i], np.float32).tolist() for i in (0, 2)
    ]
    eight = index_samples(index, 8)
    assert [len(sample.boxes) for sample in eight] == [len(truth[i // 2]) for i in range(8)]
    assert eight[0].image.shape == (48, 48, 3)
