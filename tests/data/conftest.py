from __future__ import annotations

import copy
import hashlib
import http.server
import io
import json
import os
import signal
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data.coco_fetch import Part

SIZE = (20, 30)  # height, width of every image


def _uncompressed() -> dict[str, Any]:
    """A 20×30 code whose mask is the columns 10 to 14."""
    return {"size": list(SIZE), "counts": [200, 100, 300]}


def _compressed() -> dict[str, Any]:
    """The same mask for columns 20 to 23, compressed."""
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[:, 20:24] = 1
    code = coco_mask.encode(mask)
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 3, "file_name": "b.png", "height": 20, "width": 30},
        {"id": 9, "file_name": "c.png", "height": 20, "width": 30},
    ],
    "categories": [  # ids with gaps, not in order
        {"id": 44, "name": "vase"},
        {"id": 2, "name": "dog"},
        {"id": 90, "name": "kite"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 44,
            "bbox": [2.0, 3.0, 8.0, 10.0],
            "area": 80.0,
            "iscrowd": 0,
            "segmentation": [[2, 3, 10, 3, 10, 13, 2, 13]],
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 2,
            "bbox": [10, 0, 5, 20],
            "area": 100,
            "iscrowd": 1,
            "segmentation": _uncompressed(),
        },
        {
            "id": 5,
            "image_id": 3,
            "category_id": 90,
            "bbox": [20.0, 0.0, 4.0, 20.0],
            "area": 80,
            "iscrowd": 0,
            "segmentation": _compressed(),
        },
    ],
}


@pytest.fixture
def content() -> dict[str, Any]:
    """A small sound annotation file; image 9 has no annotations."""
    return copy.deepcopy(CONTENT)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], tuple[Path, Path]]:
    """Writes an annotation file and the three images; returns annotation file and image folder."""

    def write_(content: dict[str, Any]) -> tuple[Path, Path]:
        image_dir = tmp_path / "val"
        image_dir.mkdir(exist_ok=True)
        for i, name in enumerate(("a.png", "b.png", "c.png")):
            pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(image_dir / name)
        annotation_file = tmp_path / "annotations" / "instances_val.json"
        annotation_file.parent.mkdir(exist_ok=True)
        annotation_file.write_text(json.dumps(content))
        return annotation_file, image_dir

    return write_


@pytest.fixture
def coco_tiny() -> Path:
    """A subset of COCO laid out as COCO itself; named by B2INST_COCO_TINY."""
    root = os.environ.get("B2INST_COCO_TINY")
    if not root or not Path(root).is_dir():
        pytest.skip("B2INST_COCO_TINY names no folder")
    return Path(root)


class Web:
    """A server of ``files`` (by path) that knows ranges, and misbehaves as ``acts`` say.

    Each request takes the first of ``acts``: ``status`` (answer with this error), ``cut`` (break
    off after so many bytes), ``lie`` (added to Content-Length), ``flip`` (this byte), ``deaf``
    (to ranges), ``headers``, ``interrupt`` (Ctrl-C after half of it, once this is true).
    ``always`` is the act of all requests.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.acts: deque[dict[str, Any]] = deque()
        self.always: dict[str, Any] = {}
        self.requests: list[tuple[str, str | None]] = []  # path and range
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        self.acts.clear()
        self.requests.clear()

    def answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append((to.path, to.headers["Range"]))
        act = self.always | (self.acts.popleft() if self.acts else {})
        if to.path in self.redirects:
            to.send_response(302)
            to.send_header("Location", self.redirects[to.path])
            to.end_headers()
            return
        body = self.files.get(to.path)
        if body is None or "status" in act:
            to.send_error(act.get("status", 404))
            return
        headers = act.get("headers", {})
        to.version_string = lambda: headers.get("Server", "")  # type: ignore[method-assign]
        start = 0
        if to.headers["Range"] and not act.get("deaf"):
            start = int(to.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} | headers
            if start >= len(body):
                to.send_response(416)
                to.send_header("Content-Range", f"bytes */{len(body)}")
                to.end_headers()
                return
        if "flip" in act:
            k = act["flip"]
            body = body[:k] + bytes([body[k] ^ 1]) + body[k + 1 :]
        to.send_response(206 if start else 200)
        to.send_header("Content-Length", str(len(body) - start + act.get("lie", 0)))
        for name, value in headers.items():
            if value and name != "Server":
                to.send_header(name, value)
        to.end_headers()
        body = body[start:]
        if "interrupt" in act:
            to.wfile.write(body[: len(body) // 2])
            while not act["interrupt"]():
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            return
        to.wfile.write(body[: act.get("cut", len(body))])


@pytest.fixture(scope="session")
def _web() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture
def web(_web: Web, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> Web:
    """An empty, well-behaved server on this machine."""
    monkeypatch.setenv("no_proxy", "*")
    _web.files, _web.redirects, _web.always = {}, {}, {}
    _web.reset()
    return _web


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between attempts of downloads, which are not waited for."""
    slept: list[float] = []
    monkeypatch.setattr("b2inst.data.download.time", SimpleNamespace(sleep=slept.append))
    return slept


class Site:
    """COCO's site in small, on ``web``: six images of val, seven of test, eight of train.

    Ids of val are 1 to 6; image 2 has nothing, image 4 only a crowd.
    """

    def __init__(self, web: Web) -> None:
        self.web = web
        self.images = {
            f"{name}2017": {f"{10 * k + i + 1:012d}.jpg": _jpeg(i) for i in range(count)}
            for k, (name, count) in enumerate({"val": 6, "test": 7, "train": 8}.items())
        }
        annotations = {
            f"annotations/{kind}_{split}.json": json.dumps(self._content(split)).encode()
            for kind in ("instances", "captions")
            for split in ("val2017", "train2017")
        }
        info = {f"annotations/image_info_test{dev}2017.json": b"{}" for dev in ("", "-dev")}
        self.annotations = annotations | info
        labels = self._archive("annotations/annotations_trainval2017.zip", annotations)
        test = self._archive("annotations/image_info_test2017.zip", info)
        self.splits = {
            "val": self._split("val2017", labels, "instances_val2017.json"),
            "test": self._split("test2017", test, "image_info_test-dev2017.json"),
            "train": self._split("train2017", labels, "instances_train2017.json"),
        }

    def _split(self, name: str, labels: tuple[str, str, int], file: str) -> tuple[Part, Part]:
        images = {f"{name}/": b""} | {f"{name}/{i}": c for i, c in self.images[name].items()}
        archive = self._archive(f"zips/{name}.zip", images)
        target = f"annotations/{file}"
        return (
            Part(name, len(self.images[name]), *archive),
            Part(target, len(self.annotations[target]), *labels),
        )

    def _archive(self, path: str, members: dict[str, bytes]) -> tuple[str, str, int]:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        body = self.web.files[f"/{path}"] = buffer.getvalue()
        return path, hashlib.md5(body).hexdigest(), len(body)

    def _content(self, split: str) -> dict[str, Any]:
        names = self.images[split]
        return {
            "info": {"description": "in small"},
            "images": [
                {"id": int(name[:12]), "file_name": name, "height": 20, "width": 30}
                for name in reversed(names)
            ],
            "categories": CONTENT["categories"],
            "annotations": [
                CONTENT["annotations"][0] | {"id": 2 * k + j, "image_id": k, "iscrowd": int(k == 4)}
                for k in (int(name[:12]) for name in names)
                for j in range(2)
                if k != 2
            ],
        }


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.fixture
def site(web: Web, monkeypatch: pytest.MonkeyPatch) -> Site:
    small = Site(web)
    monkeypatch.setattr("b2inst.data.coco_fetch.SPLITS", small.splits)
    return small
