"""A COCO annotation file of predictions that grows by one image at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from b2inst.data import DataError

_REMEDY = "choose another --out, or --overwrite to begin anew"

#: What a line of the partial file holds: some of the COCO file's lists.
_Entry = dict[str, list[dict[str, Any]]]


class PredictionFile:
    """Adds images with their predictions to a COCO annotation file, and loses none of them.

    As a context manager it keeps each image on disk as soon as it is added, as a line of a hidden
    file beside ``path``; leaving the context, also by an exception, turns the lines into the COCO
    file. If the process is killed the lines stay, and the next one goes on from them. Memory does
    not grow with the predictions.

    Args:
        path: the COCO file, in a folder that exists.
        head: its ``info`` and ``categories``; a file is continued only with the same ones.
        overwrite: begin anew instead of continuing the file that is there.

    Raises:
        DataError: the file that is there has another head, or is of another program.
    """

    def __init__(self, path: Path, head: dict[str, Any], *, overwrite: bool = False) -> None:
        self.path = path
        self._head = head
        self._partial = path.with_name(f".{path.name}.partial")
        self._fresh = path.with_name(f".{path.name}.new")
        self._overwrite = overwrite
        self._last_id = {"images": 0, "annotations": 0}
        #: Called with each earlier image and its annotations, which it may change.
        self.amend: Callable[[dict[str, Any], list[dict[str, Any]]], None] = lambda *_: None
        self.detections = 0  #: number of annotations
        self.drawn = 0  #: annotations that reach the head's ``score_threshold``
        self.best_score = 0.0  #: highest score of an annotation
        #: COCO's entry of each image, by file name; of a video its last frame's, by the video's.
        self.images: dict[str, dict[str, Any]] = {}
        for entry in self._earlier():
            self._note(entry)

    def __enter__(self) -> Self:
        with self._fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head) + "\n")
            for entry in self._earlier():
                for image in entry["images"]:
                    self.amend(image, entry["annotations"])
                file.write(json.dumps(entry) + "\n")
        self._fresh.replace(self._partial)
        self._file = self._partial.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        with self._fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head).removesuffix("}"))
            for key in ("images", "annotations"):
                file.write(f', "{key}": [')
                for i, record in enumerate(r for entry in self._lines() for r in entry[key]):
                    file.write(",\n" * (i > 0) + json.dumps(record))
                file.write("]")
            file.write("}\n")
        self._fresh.replace(self.path)
        self._partial.unlink()

    @property
    def next_image_id(self) -> int:
        """Id of the image that is added next."""
        return self._last_id["images"] + 1

    def add(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Add an image.

        Args:
            image: COCO's entry, with :attr:`next_image_id` as its id, with ``picture``, the path
                of the annotated picture or video relative to the file, and of a frame with
                ``video``, the video's file name.
            annotations: COCO's entries, but for their ids.
        """
        first = self._last_id["annotations"] + 1
        numbered = [{"id": first + i, **entry} for i, entry in enumerate(annotations)]
        entry = {"images": [image], "annotations": numbered}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._note(entry)

    def _note(self, entry: _Entry) -> None:
        for image in entry["images"]:
            self.images[image.get("video") or image["file_name"]] = image
        scores = [annotation["score"] for annotation in entry["annotations"]]
        self.detections += len(scores)
        self.drawn += sum(score >= self._head["info"]["score_threshold"] for score in scores)
        self.best_score = max([self.best_score, *scores])
        for key, last in self._last_id.items():
            self._last_id[key] = max([last, *(record["id"] for record in entry[key])])

    def _earlier(self) -> Iterator[_Entry]:
        """The images that earlier calls have added, one at a time.

        Without those whose picture was removed, or never saved: it is made again.
        """
        if self._overwrite:
            return
        for entry in self._lines() if self._partial.exists() else self._whole():
            if (self.path.parent / entry["images"][0]["picture"]).is_file():
                yield entry

    def _lines(self) -> Iterator[_Entry]:
        with self._partial.open(encoding="utf-8") as lines:
            whole = (json.loads(line) for line in lines if line.endswith("\n"))  # the last is cut
            if head := next(whole, None):
                self._check(head)
            yield from whole

    def _whole(self) -> Iterator[_Entry]:
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_bytes())
            info = {key: content["info"].get(key, False) for key in self._head["info"]}
            head = {"info": info, "categories": content["categories"]}
            found = defaultdict(list)
            for annotation in content["annotations"]:
                found[annotation["image_id"]].append(annotation)
            entries = [
                {"images": [image], "annotations": found[image["id"]]}
                for image in content["images"]
                if isinstance(image["picture"], str)
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{self.path}: is not of b2inst predict; {_REMEDY}") from None
        self._check(head)
        yield from entries

    def _check(self, head: dict[str, Any]) -> None:
        for key, value in self._head["info"].items():
            before = head["info"].get(key, False)
            if before != value:
                raise DataError(
                    f"{self.path}: was made with {key} {before}, not {value}; {_REMEDY}"
                )
        if head["categories"] != self._head["categories"]:
            raise DataError(f"{self.path}: has other categories than the model; {_REMEDY}")
