"""A COCO annotation file of predictions that grows by one image at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from b2inst.data import DataError
from b2inst.data.files import replacing

_REMEDY = "choose another --out, or --overwrite to start again"

_Entry = tuple[dict[str, Any], list[dict[str, Any]]]  # an image and its annotations


class PredictionFile:
    """Adds images with their predictions to a COCO annotation file.

    As a context manager, it saves each image as soon as it is added, as a line of a hidden file
    beside ``path``, and writes the COCO file when the context ends, also by an exception. If the
    process is killed, the lines stay and are read the next time.

    Args:
        path: COCO file, in a folder that exists.
        head: Its ``info`` and ``categories``; a file is continued only with the same ones.
        overwrite: Start again instead of continuing the existing file.

    Raises:
        DataError: The existing file has another head or was written by another program.
    """

    def __init__(self, path: Path, head: dict[str, Any], *, overwrite: bool = False) -> None:
        self.path = path
        self._head = head
        self._partial = path.with_name(f".{path.name}.partial")
        # An image whose picture is gone, or was never saved, is predicted again.
        self._entries = [] if overwrite else [e for e in self._read() if self._is_whole(e[0])]
        self._last_image = max((image["id"] for image, _ in self._entries), default=0)
        self._last_annotation = max((a["id"] for _, own in self._entries for a in own), default=0)

    @property
    def images(self) -> dict[str, dict[str, Any]]:
        """COCO's entry of each image, by file name."""
        return {image["file_name"]: image for image, _ in self._entries}

    def __enter__(self) -> Self:
        with replacing(self._partial) as fresh:
            lines = (json.dumps(line) + "\n" for line in (self._head, *self._entries))
            fresh.write_text("".join(lines), encoding="utf-8")
        self._file = self._partial.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        content = {
            **self._head,
            "images": [image for image, _ in self._entries],
            "annotations": [annotation for _, own in self._entries for annotation in own],
        }
        with replacing(self.path) as fresh:
            fresh.write_text(json.dumps(content) + "\n", encoding="utf-8")
        self._partial.unlink()

    def add(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Add an image.

        Args:
            image: COCO's entry without its id, and with ``picture``, the path of the annotated
                picture relative to the file.
            annotations: COCO's entries without their ids.
        """
        self._last_image += 1
        numbered = []
        for annotation in annotations:
            self._last_annotation += 1
            own = {"id": self._last_annotation, "image_id": self._last_image}
            numbered.append({**annotation, **own})
        entry = ({"id": self._last_image, **image}, numbered)
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._entries.append(entry)

    def _is_whole(self, image: dict[str, Any]) -> bool:
        return (self.path.parent / image["picture"]).is_file()

    def _read(self) -> list[_Entry]:
        """What earlier calls have added."""
        try:
            if self._partial.exists():
                # The last line may be incomplete, even the first.
                lines = self._partial.read_text(encoding="utf-8").split("\n")[:-1]
                head, *entries = map(json.loads, lines or [json.dumps(self._head)])
            elif self.path.exists():
                head, entries = _split(json.loads(self.path.read_text(encoding="utf-8")))
            else:
                return []
            before = {key: head["info"].get(key, False) for key in self._head["info"]}
            known = all(isinstance(image["picture"], str) for image, _ in entries)
        except (ValueError, KeyError, TypeError, AttributeError):
            known = False
        if not known:
            raise DataError(f"{self.path}: is not of b2inst predict; {_REMEDY}")
        for key, value in self._head["info"].items():
            if before[key] != value:
                raise DataError(
                    f"{self.path}: was made with {key} {before[key]}, not {value}; {_REMEDY}"
                )
        if head["categories"] != self._head["categories"]:
            raise DataError(f"{self.path}: has other categories than the model; {_REMEDY}")
        return entries


def _split(content: dict[str, Any]) -> tuple[dict[str, Any], list[_Entry]]:
    """A COCO file into its head and its images with their annotations."""
    own = defaultdict(list)
    for annotation in content["annotations"]:
        own[annotation["image_id"]].append(annotation)
    head = {"info": content["info"], "categories": content["categories"]}
    return head, [(image, own[image["id"]]) for image in content["images"]]
