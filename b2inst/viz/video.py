"""Videos, read and written frame by frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from b2inst.data import DataError
from b2inst.data.wording import BadFileError
from b2inst.viz.draw import Picture

# Our own error takes the place of what these would print.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

#: Endings of video files, in lower case.
SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}
)


class Video:
    """A video file; iterating over it decodes its frames, H×W×3 uint8 RGB, upright.

    Raises:
        BadFileError: It is missing or cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise BadFileError(f"{path}: no such video; restore it")
        capture = _capture(path)
        if not capture.grab():
            raise BadFileError(
                f"{path}: OpenCV cannot decode this video; convert it (ffmpeg -i {path.name} "
                "converted.mp4)"
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        length = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.path = path
        self.rate = rate if 0 < rate < 1000 else 25.0  #: frames per second
        #: Number of frames according to the file, an estimate in some formats.
        self.length = max(length, 1)

    def __iter__(self) -> Iterator[Picture]:
        read, capture = 0, _capture(self.path)
        while (found := capture.read())[0]:
            read += 1
            yield np.ascontiguousarray(found[1][..., ::-1], np.uint8)  # from BGR
        if read < 0.95 * self.length:
            warnings.warn(
                f"{self.path}: {read} of {self.length} frames could be decoded", stacklevel=2
            )


class VideoWriter:
    """Writes an MPEG-4 video, which appears under its name only when it is complete.

    Args:
        path: File to write, ``….mp4``.
        rate: Frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        # MPEG-4 divides a second into 65,535 parts at most; OpenCV needs some for each digit.
        self._path, self._rate = path, round(rate, 3 if rate < 65 else 2 if rate < 650 else 1)
        self._partial = path.with_name(".partial.mp4")
        self._writer = cv2.VideoWriter()

    def write(self, frame: Picture) -> None:
        """Append a frame, H×W×3 uint8 RGB, all of one size; odd sides lose a pixel.

        Raises:
            DataError: OpenCV cannot write the file.
        """
        height, width = (side // 2 * 2 for side in frame.shape[:2])
        if not self._writer.isOpened():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # or it is taken for this one if that is interrupted
            code = cv2.VideoWriter.fourcc(*"mp4v")
            if not self._writer.open(str(self._partial), code, self._rate, (width, height)):
                raise DataError(
                    f"{self._path}: OpenCV cannot write this video; choose another --out"
                )
        self._writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._writer.release()
        self._partial.replace(self._path)

    def discard(self) -> None:
        """Remove an incomplete file."""
        self._writer.release()
        self._partial.unlink(missing_ok=True)


def _capture(path: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)  # others take "1.png" for a video
