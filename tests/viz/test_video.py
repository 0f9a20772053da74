from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from b2inst.data import DataError
from b2inst.viz.video import Video, VideoWriter


def frames(size: tuple[int, int], count: int) -> list[np.ndarray]:
    """Red on the left, blue on the right, brighter from frame to frame."""
    found = [np.zeros((*size, 3), np.uint8) for _ in range(count)]
    for number, frame in enumerate(found):
        frame[:, : size[1] // 2, 0] = frame[:, size[1] // 2 :, 2] = 100 + 20 * number
    return found


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_what_is_written_is_read(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "deep" / f"{'a' * 251}.mp4"  # 255 bytes, as many as a name may have
    writer = VideoWriter(path, 12.5)
    for frame in frames(size, 4):
        writer.write(frame)
    assert not path.exists()
    writer.close()
    writer.discard()  # of nothing
    assert [*path.parent.iterdir()] == [path]
    video = Video(path)
    assert (video.rate, video.length) == (12.5, 4)
    found = list(video)
    assert [f.shape for f in found] == [(48, 64, 3)] * 4
    for a, b in zip(found, frames((48, 64), 4), strict=True):
        assert np.abs(a.astype(int) - b).mean() < 4  # of 255; the compression loses some


@pytest.mark.parametrize("rate", [23.976, 59.94, 119.873, 239.963, 998.77])
def test_any_frame_rate_can_be_written(tmp_path: Path, rate: float) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", rate)
    for frame in frames((48, 64), 3):
        writer.write(frame)
    writer.close()
    video = Video(tmp_path / "a.mp4")
    assert video.rate == pytest.approx(rate, rel=0.0005)
    assert len(list(video)) == 3


def test_a_video_that_is_not_complete_is_discarded(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    writer.discard()  # nothing was written
    writer.write(frames((48, 64), 1)[0])
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_is_replaced_goes_with_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    writer.write(frames((48, 64), 1)[0])
    assert not (tmp_path / "a.mp4").exists()  # predict takes a picture for that of all frames
    writer.discard()


def test_frames_that_are_missing_are_told(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(
        str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240)
    )
    noise = np.random.default_rng(0).integers(0, 255, (40, 240, 320, 3), np.uint8)
    for frame in noise:
        writer.write(frame)
    writer.release()
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r"a\.avi: \d+ of 40 frames could be decoded"):
        assert 0 < len(list(Video(tmp_path / "a.avi"))) < 40


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    for name, content in (("empty.mp4", b""), ("text.mov", b"no video" * 99)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: OpenCV cannot decode .*; convert it"):
            Video(tmp_path / name)
    with pytest.raises(DataError, match=r"gone\.mpg: no such video"):
        Video(tmp_path / "gone.mpg")
