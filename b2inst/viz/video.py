"""Videos, read and written frame by frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from b2inst.data import DataError
from b2inst.data.images import Bytes

# Our error says what these would print beside it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

#: The endings of files that are taken for videos, in lower case.
SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}
)


@dataclass(frozen=True)
class Video:
    """A video file; its frames are decoded as they are asked for, turned upright."""

    path: Path
    rate: float  #: frames a second
    length: int  #: frames that the file states, which for some formats is an estimate

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what a file says of itself, and its first frame.

        Raises:
            DataError: there is no such file, or OpenCV cannot decode it.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such video; restore it or leave it out with --skip-bad")
        with _capture(path) as capture:
            if not capture.grab():
                raise DataError(
                    f"{path}: OpenCV cannot decode this video; convert it, as by ffmpeg -i "
                    f"{path.name} converted.mp4, or leave it out with --skip-bad"
                )
            rate = capture.get(cv2.CAP_PROP_FPS)
            length = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return cls(path, rate if 0 < rate < 1000 else 25.0, max(length, 1))

    def __iter__(self) -> Iterator[Bytes]:
        """Each frame, H×W×3 uint8 RGB; warns where they end early."""
        read = 0
        with _capture(self.path) as capture:
            while (found := capture.read())[0]:
                read += 1
                yield np.ascontiguousarray(found[1][..., ::-1], np.uint8)  # BGR
        if read < 0.95 * self.length:
            warnings.warn(
                f"{self.path}: {read} of {self.length} frames could be decoded", stacklevel=2
            )


class VideoWriter:
    """Writes frames as MPEG-4 video; the file appears under its name only when complete.

    Args:
        path: file to write, ``….mp4``.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._partial = path.with_name(f".partial-{path.name}")
        self._writer = cv2.VideoWriter()

    def write(self, frame: Bytes) -> None:
        """Append a frame, H×W×3 uint8 RGB of one size; odd sides lose a pixel.

        Raises:
            DataError: OpenCV cannot write the file.
        """
        if not self._writer.isOpened():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            size = (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            if not self._writer.open(str(self._partial), code, self._rate, size):
                raise DataError(
                    f"{self._path}: OpenCV cannot write this video; choose another --out"
                )
        height, width = (side // 2 * 2 for side in frame.shape[:2])
        self._writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._writer.release()
        self._partial.replace(self._path)

    def discard(self) -> None:
        """Remove what is not complete."""
        self._writer.release()
        self._partial.unlink(missing_ok=True)


@contextmanager
def _capture(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)  # no other takes "1.png" for a film
    try:
        yield capture
    finally:
        capture.release()
