"""A COCO annotation file of predictions that grows by one image at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from b2inst.data import DataError
from b2inst.data.files import replacing

_REMEDY = "choose another --out, or --overwrite to start again"

_Entry = dict[str, list[dict[str, Any]]]  # an image and its annotations, as in COCO's lists


class PredictionFile:
    """Adds images with their predictions to a COCO annotation file.

    As a context manager, it saves each image at once as a line of a hidden file, which it turns
    into the COCO file when the context ends, also by an exception, or reads the next time if the
    process is killed. Annotations are not kept in memory.

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
        self._overwrite = overwrite
        self._last_image = self._last_annotation = 0
        #: Called with each earlier image and its annotations, which it may change.
        self.amend: Callable[[dict[str, Any], list[dict[str, Any]]], None] = lambda *_: None
        self.detections = 0  #: number of annotations
        self.drawn = 0  #: annotations that reach the head's ``score_threshold``
        self.best_score = 0.0  #: highest score of an annotation
        #: COCO's entry of each image by file name; the last frame's entry of a video, by the video.
        self.images: dict[str, dict[str, Any]] = {}
        for entry in self._earlier():
            self._note(entry)

    def __enter__(self) -> Self:
        with replacing(self._partial) as fresh, fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head) + "\n")
            for entry in self._earlier():
                self.amend(entry["images"][0], entry["annotations"])
                file.write(json.dumps(entry) + "\n")
        self._file = self._partial.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with replacing(self.path) as fresh, fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head).removesuffix("}"))
            for key in ("images", "annotations"):
                file.write(f', "{key}": [')
                for i, record in enumerate(r for entry in self._lines() for r in entry[key]):
                    file.write(",\n" * (i > 0) + json.dumps(record))
                file.write("]")
            file.write("}\n")
        self._partial.unlink()

    def add(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Add an image.

        Args:
            image: COCO's entry without its id, and with ``picture``, the path of the annotated
                picture or video relative to the file; for a frame also ``video``, the video's name.
            annotations: COCO's entries without their ids.
        """
        image_id = self._last_image + 1
        numbers = enumerate(annotations, self._last_annotation + 1)
        numbered = [a | {"id": number, "image_id": image_id} for number, a in numbers]
        entry = {"images": [{"id": image_id, **image}], "annotations": numbered}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._note(entry)

    def _note(self, entry: _Entry) -> None:
        (image,), annotations = entry["images"], entry["annotations"]
        self.images[image.get("video") or image["file_name"]] = image
        scores = [annotation["score"] for annotation in annotations]
        self.detections += len(scores)
        self.drawn += sum(score >= self._head["info"]["score_threshold"] for score in scores)
        self.best_score = max([self.best_score, *scores])
        self._last_image = max(self._last_image, image["id"])
        self._last_annotation = max([self._last_annotation, *(a["id"] for a in annotations)])

    def _earlier(self) -> Iterator[_Entry]:
        """What earlier calls have added; images without their picture are predicted again."""
        if not self._overwrite:
            for entry in self._lines() if self._partial.exists() else self._whole():
                if (self.path.parent / entry["images"][0]["picture"]).is_file():
                    yield entry

    def _lines(self) -> Iterator[_Entry]:
        with self._partial.open(encoding="utf-8") as lines:
            complete = (json.loads(line) for line in lines if line.endswith("\n"))
            head: dict[str, Any] = next(complete, {})
            for entry in complete:
                self._check(head)
                yield entry

    def _whole(self) -> Iterator[_Entry]:
        if not self.path.exists():
            return
        own: dict[int, list[dict[str, Any]]] = defaultdict(list)
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            for annotation in content["annotations"]:
                own[annotation["image_id"]].append(annotation)
            images = {image["id"]: image for image in content["images"] if image["picture"]}
            head = {key: content[key] for key in self._head}
            head["info"]["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: was not written by b2inst predict; {_REMEDY}") from error
        if images:  # without, a file may be of any settings
            self._check(head)
        for i, image in images.items():
            yield {"images": [image], "annotations": own[i]}

    def _check(self, head: dict[str, Any]) -> None:
        for key, value in self._head["info"].items():
            if (before := head["info"].get(key)) != value:
                option = f"--{key.removeprefix('score_')} {before}, not {value}"
                limits = "other weights, --max-detections, --min-score or --tile"
                made = limits if key == "model" else option
                raise DataError(f"{self.path}: was made with {made}; {_REMEDY}")
        if head["categories"] != self._head["categories"]:
            raise DataError(f"{self.path}: has other categories than the model; {_REMEDY}")
