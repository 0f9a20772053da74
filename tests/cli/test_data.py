"""`b2inst data convert`; `b2inst data coco`, from a web server that knows nothing but files."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from b2inst.cli import app
from b2inst.data import write_scenes
from b2inst.data.coco_fetch import SPLITS, Part

IMAGES = 4


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "coco", *map(str, arguments)])


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server with COCO's layout; its val2017 is four scenes."""
    root = tmp_path / "mirror"
    write_scenes(tmp_path, split="val2017", images=IMAGES, size=32, seed=0)
    labels = json.loads((tmp_path / "annotations/instances_val2017.json").read_text())
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for image in labels["images"]:
        old = tmp_path / "val2017" / image["file_name"]
        image["file_name"] = f"{image['id']:012d}.jpg"  # PNG inside, which readers see
        old.rename(root / "val2017" / image["file_name"])
    content = json.dumps(labels)
    images, annotations = SPLITS["val"]
    for part in (images, annotations):
        (root / part.archive).parent.mkdir(exist_ok=True)
    with ZipFile(root / annotations.archive, "w") as file:
        file.writestr(annotations.target, content)
    with ZipFile(root / images.archive, "w") as file:
        for path in (root / "val2017").iterdir():
            file.write(path, f"val2017/{path.name}")
    small = (
        _measured(root, images)._replace(extent=IMAGES),
        _measured(root, annotations)._replace(extent=len(content)),
    )
    train = (SPLITS["train"][0]._replace(size=1), small[1])
    monkeypatch.setattr("b2inst.data.coco_fetch.SPLITS", {"val": small, "train": train})
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _measured(root: Path, part: Part) -> Part:
    body = (root / part.archive).read_bytes()
    return part._replace(md5=hashlib.md5(body).hexdigest(), size=len(body))


def test_a_split(mirror: str, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    fetched = _call(folder, "--splits", "val", "--mirror", mirror, "--keep-zips")
    assert fetched.exit_code == 0, fetched.output
    assert len([*(folder / "val2017").iterdir()]) == IMAGES
    assert len([*folder.glob("*.zip")]) == 2
    checked = CliRunner().invoke(app, ["data", "check", str(folder)])
    assert f"{IMAGES} images" in checked.output


def test_both_splits_of_annotations_by_default(mirror: str, tmp_path: Path) -> None:
    failed = _call(tmp_path / "coco", "--mirror", mirror)
    assert failed.exit_code == 1
    assert "zips/train2017.zip: HTTP Error 404" in failed.stderr  # val is there by then
    assert len([*(tmp_path / "coco" / "val2017").iterdir()]) == IMAGES


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--splits", "val,tset"], 1, "no split 'tset' of COCO"),
        (["--mirror", "somewhere"], 1, "begins with http"),
    ],
)
def test_mistakes(arguments: list[str], status: int, words: str, tmp_path: Path) -> None:
    result = _call(tmp_path / "coco", *arguments)
    assert result.exit_code == status
    assert words in result.stderr
    assert not (tmp_path / "coco").exists()


def _convert(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)])


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """An image of 16 bits with a mask of two objects, and one without a mask."""
    labels = np.zeros((32, 40), np.uint16)
    labels[2:12, 5:15] = 7
    labels[20:30, 20:40] = 1000
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        Image.fromarray(labels * 60).save(tmp_path / f"set/{name}.tif")
    Image.fromarray(labels).save(tmp_path / "set/a_cp_masks.png")
    return tmp_path / "set"


def test_convert_label_maps(nuclei: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    failed = _convert("--from", "labelmap", nuclei, out)
    assert failed.exit_code == 1
    assert f"error: {nuclei / 'b.tif'}: must have one mask" in failed.stderr
    done = _convert("--from", "labelmap", nuclei, out, "--name", "nucleus", "--skip-bad")
    assert done.exit_code == 0, done.output
    assert "instances_train.json: 1 image (0 without objects), 2 objects" in done.stdout
    assert "left out: " in done.stdout
    checked = CliRunner().invoke(app, ["data", "check", str(out)])
    assert checked.exit_code == 0, checked.output
    assert "nucleus 2" in checked.output


def test_convert_yolo(nuclei: Path, tmp_path: Path) -> None:
    (nuclei / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (nuclei / "a_cp_masks.png").unlink()
    done = _convert(nuclei, tmp_path / "out", "--from", "yolo")
    assert done.exit_code == 0, done.output
    assert "2 images (1 without objects), 1 object\n" in done.stdout


def test_convert_without_pytorch(nuclei: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from b2inst.cli import app; "
        "app(['data', 'convert', *sys.argv[1:]])"
    )
    arguments = [str(nuclei), str(tmp_path / "out"), "--from", "labelmap", "--skip-bad"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    assert (tmp_path / "out/annotations/instances_train.json").is_file()


def test_mistakes_of_convert(nuclei: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _convert(nuclei, out).exit_code == 2
    wrong = _convert(nuclei, out, "--from", "yolo", "--name", "x")
    assert wrong.exit_code == 2
    assert "need --from labelmap" in wrong.stderr
    assert "nowhere: no such file" in _convert("nowhere", out, "--from", "yolo").stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--archive", "nowhere.zip"], 1, "error: nowhere.zip: cannot be read"),
        (["--archive", "a.zip", "--mirror", "http://localhost"], 2, "leave out --mirror"),
        (["--mirror", "somewhere"], 1, "begins with http"),
    ],
)
def test_mistakes_with_nuclei(
    arguments: list[str], status: int, words: str, tmp_path: Path
) -> None:
    call = ["data", "nuclei", str(tmp_path / "nuclei"), *arguments]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == status
    assert words in result.stderr
    assert [*tmp_path.iterdir()] == []
