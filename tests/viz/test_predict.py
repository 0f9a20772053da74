from __future__ import annotations

import gc
import hashlib
import json
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image, features
from pycocotools.coco import COCO

from b2inst.data import DataError
from b2inst.evaluation import EvaluationError
from b2inst.structures import Instances
from b2inst.viz import predict as module
from b2inst.viz.predict import PredictedFiles, find_images, predict_files
from b2inst.viz.video import Video

SIZE = (40, 48)
LONG = 60  # seconds; what takes that long is a deadlock


class Model(torch.nn.Module):
    """Finds one square of 10×10 pixels, surely, and one pixel, hardly.

    Args:
        stop_at: the image at which Ctrl-C is pressed, from 0.
    """

    recipe = {"num_classes": 2}  # noqa: RUF012
    tile = None

    def __init__(
        self,
        *,
        bias: float = 0,
        stop_at: int | None = None,
        max_detections: int = 100,
        min_score: float = 0.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.precision = precision
        self.min_score = min_score
        self.max_detections = max_detections
        self.register_buffer("bias", torch.tensor(bias))
        self.class_names: tuple[str, ...] | None = ("star", "gear")
        self.seen = 0
        self.stop_at = stop_at
        self.eval()

    def predict(self, images: list[np.ndarray]) -> list[Instances]:
        (image,) = images
        if self.seen == self.stop_at:
            raise KeyboardInterrupt
        self.seen += 1
        masks = torch.zeros((2, *image.shape[:2]), dtype=torch.bool)
        masks[0, 5:15, 20:30] = True
        masks[1, 0, 0] = True
        scores = torch.tensor([0.9, 0.1])
        found = Instances(
            boxes=torch.tensor([[20.0, 5, 30, 15], [0, 0, 1, 1]]),
            scores=scores,
            class_scores=scores,
            labels=torch.tensor([1, 0]),
            masks=masks,
            class_names=self.class_names,
        )
        return [found]


def photo(path: Path, grey: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), grey, dtype=np.uint8)).save(path)
    return path


def film(path: Path, *, frames: int, rate: float = 10) -> Path:
    """Grey frames, each 20 brighter than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, SIZE[::-1])
    for number in range(frames):
        writer.write(np.full((*SIZE, 3), 20 * number, np.uint8))
    writer.release()
    return path


def run(images: list[Path], out: Path, model: Any = None, **options: Any) -> PredictedFiles:
    return predict_files(model or Model(), images, out, progress=False, **options)


def names(out: Path) -> list[str]:
    content = json.loads((out / "predictions.json").read_text())
    return [image["file_name"] for image in content["images"]]


def files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_the_json_is_read_by_coco_tools(tmp_path: Path) -> None:
    images = [photo(tmp_path / "a.png"), photo(tmp_path / "b.jpg")]
    run(images, tmp_path / "out", category_ids=(3, 7))
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.png", "b.jpg"]
    assert len(coco.getAnnIds()) == 4
    (found,) = coco.loadAnns(coco.getAnnIds(imgIds=[2], catIds=[7]))
    assert found["bbox"] == [20, 5, 10, 10]
    assert found["area"] == 100
    assert found["score"] == pytest.approx(0.9)
    assert coco.annToMask(found)[5:15, 20:30].all()


def test_pictures_show_what_is_sure(tmp_path: Path) -> None:
    (picture,) = run([photo(tmp_path / "a.png")], tmp_path / "out").pictures
    assert picture == tmp_path / "out" / "a.png"
    drawn = np.asarray(Image.open(picture))
    scale = drawn.shape[0] // SIZE[0]
    assert drawn.shape == (SIZE[0] * scale, SIZE[1] * scale, 3)
    assert (drawn[10 * scale, 29 * scale] != 90).any()
    assert (drawn[:scale, :scale] == 90).all()


def test_images_of_one_name_are_told_apart(tmp_path: Path) -> None:
    images = [photo(tmp_path / folder / "a.png") for folder in ("x", "y", "y/z")]
    images += [photo(tmp_path / "x/a.jpg"), images[0]]
    found = run(images, tmp_path / "out")
    assert names(tmp_path / "out") == ["x/a.png", "y/a.png", "y/z/a.png", "x/a.jpg"]
    pictures = [str(p.relative_to(tmp_path / "out")) for p in found.pictures]
    assert pictures == ["x/a.png", "y/a.png", "y/z/a.png", "x/a-2.png"]
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [image["picture"] for image in content["images"]] == pictures
    assert all(p.is_file() for p in found.pictures)


def test_pictures_never_share_a_file(tmp_path: Path) -> None:
    """Not even where names that differ in case are the same file."""
    images = [photo(tmp_path / "in" / n) for n in ("x.jpg", "x.png", "X-2.jpg", "x_masks.png")]
    run(images[:3], tmp_path / "out", label_maps=True)
    run(images, tmp_path / "out", label_maps=True)
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    paths = [image[key] for image in content["images"] for key in ("picture", "label_map")]
    assert len({path.casefold() for path in paths}) == 8
    assert all((tmp_path / "out" / path).is_file() for path in paths)


def test_a_picture_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    images = [photo(tmp_path / "in" / n) for n in ("x.jpg", "x.PNG/y.jpg", "x_masks.png/z/y.jpg")]
    run(images, tmp_path / "out", label_maps=True)
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [(i["picture"], i["label_map"]) for i in content["images"]] == [
        ("x-2.png", "x-2_masks.png"),
        ("x.PNG/y.png", "x.PNG/y_masks.png"),
        ("x_masks.png/z/y.png", "x_masks.png/z/y_masks.png"),
    ]
    assert run(images, tmp_path / "out", label_maps=True).kept == 3


def test_a_model_without_names_counts_its_classes(tmp_path: Path) -> None:
    model = Model()
    model.class_names = None
    run([photo(tmp_path / "a.png")], tmp_path / "out", model)
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "0"}, {"id": 2, "name": "1"}]


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    image, out = photo(tmp_path / "in/a.png"), tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(DataError, match="out: another process predicts"):
        run([image], out)
    assert len(run([image], out).pictures) == 1


def test_a_second_call_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = [photo(tmp_path / f"in/{n}.png") for n in "abc"]
    with pytest.raises(KeyboardInterrupt):
        run(images, out, Model(stop_at=2))
    assert names(out) == ["a.png", "b.png"]
    before = files(out)
    images.append(photo(tmp_path / "in/d.png"))
    found = run(images, out, Model(stop_at=2))  # there are two to predict
    assert names(out) == ["a.png", "b.png", "c.png", "d.png"]
    assert (len(found.pictures), found.kept) == (4, 2)
    assert files(out)["a.png"] == before["a.png"]
    whole = files(out)
    assert run(images[1:2], out, Model(stop_at=0)).kept == 1
    assert files(out) == whole

    run(images, tmp_path / "at_once")
    assert files(tmp_path / "at_once") == whole


@pytest.mark.parametrize(("limit", "full"), [(2, 3), (3, 0)])
def test_images_with_as_many_instances_as_the_model_may_find_are_counted(
    tmp_path: Path, limit: int, full: int
) -> None:
    images = [photo(tmp_path / f"in/{i}.png") for i in range(3)]
    found = run(images, tmp_path / "out", Model(max_detections=limit))
    assert found.full == full


def test_each_image_is_written_while_the_next_is_predicted(tmp_path: Path) -> None:
    """What `kill -9` leaves of the first two images is gone on from."""
    out = tmp_path / "out"
    images = [photo(tmp_path / f"in/{n}.png") for n in "abc"]
    left: dict[str, bytes] = {}

    class Killed(Model):
        def predict(self, images: list[np.ndarray]) -> list[Instances]:
            if self.seen == 2:
                while not (out / "b.png").exists():  # the last thing to be written of an image
                    time.sleep(0.01)
                left.update(files(out))
            return super().predict(images)

    run(images, out, Killed())
    again = tmp_path / "again"
    for name, content in left.items():
        again.mkdir(exist_ok=True)
        (again / name).write_bytes(content)
    found = run(images, again, Model(stop_at=1))
    assert (found.kept, names(again)) == (2, ["a.png", "b.png", "c.png"])
    assert files(again) == files(out)


def test_what_is_predicted_is_written_when_ctrl_c_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the thread that writes has hardly begun."""
    out, pressed = tmp_path / "out", threading.Event()

    class Stopped(Model):
        def predict(self, images: list[np.ndarray]) -> list[Instances]:
            if self.seen == 2:
                pressed.set()
                raise KeyboardInterrupt
            return super().predict(images)

    def drawn(picture: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        if (out / "a.png").exists():
            assert pressed.wait(LONG)
        return picture

    monkeypatch.setattr(module, "draw_instances", drawn)
    images = [photo(tmp_path / f"in/{n}.png") for n in "abc"]
    with pytest.raises(KeyboardInterrupt):
        run(images, out, Stopped())
    assert names(out) == ["a.png", "b.png"]
    assert {"a.png", "b.png"} < set(files(out))


def test_what_cannot_be_written_names_its_image(tmp_path: Path) -> None:
    class Diverged(Model):
        def predict(self, images: list[np.ndarray]) -> list[Instances]:
            (found,) = super().predict(images)
            if self.seen == 2:
                found.scores[0] = torch.nan
            return [found]

    out = tmp_path / "out"
    images = [photo(tmp_path / f"in/{n}.png") for n in "abcd"]
    with pytest.raises(EvaluationError, match=r"in/b\.png, detection 0: score is nan"):
        run(images, out, Diverged())
    assert names(out) == ["a.png"]
    run(images, out)
    run(images, tmp_path / "at_once")
    assert files(out) == files(tmp_path / "at_once")


def test_a_failing_reader_names_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no fault of the image ends the call, once those before it are written."""

    def failing(path: Path) -> Image.Image:
        if path.name == "c.png":
            raise PermissionError(13, "Permission denied", str(path))
        return Image.open(path).convert("RGB")

    monkeypatch.setattr(module, "read_image", failing)
    images = [photo(tmp_path / f"in/{n}.png") for n in "abcd"]
    with pytest.raises(PermissionError, match=r"in/c\.png"):
        run(images, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.png", "b.png"]


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    class Watched(Model):
        def predict(self, images: list[np.ndarray]) -> list[Instances]:
            nonlocal most
            (found,) = super().predict(images)
            alive.append(weakref.ref(found.masks))
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            return [found]

    run([photo(tmp_path / f"in/{i}.png") for i in range(8)], tmp_path / "out", Watched())
    assert len(alive) == 8
    assert most <= 3  # predicted, waiting, and written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": Model(bias=1)},
            "was made with other weights, --max-detections, --min-score or --tile",
        ),
        ({"model": Model(min_score=0.2)}, "other weights, --max-detections, --min-score or --tile"),
        (
            {"model": Model(max_detections=300)},
            "other weights, --max-detections, --min-score or --tile",
        ),
        ({"score_threshold": 0.5}, "was made with --threshold 0.3, not 0.5; .*--overwrite"),
        ({"model": Model(precision="bfloat16")}, "--precision float32, not bfloat16"),
        ({"category_ids": (3, 7)}, "other categories"),
    ],
)
def test_other_predictions_are_not_mixed(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    images, out = [photo(tmp_path / "in/a.png")], tmp_path / "out"
    run(images, out)
    before = files(out)
    with pytest.raises(DataError, match=message):
        run(images, out, **options)
    assert files(out) == before
    found = run(images, out, **options, overwrite=True)
    assert (found.kept, names(out)) == (0, ["a.png"])
    assert files(out)["predictions.json"] != before["predictions.json"]


def test_another_image_of_the_same_name_is_not_taken_for_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([photo(tmp_path / "in/a.png")], out)
    run([photo(tmp_path / "copy/a.png")], out)  # of the same content
    with pytest.raises(DataError, match=r"other/a\.png: differs from the a\.png.*--overwrite"):
        run([photo(tmp_path / "other/a.png", 91)], out)
    assert names(out) == ["a.png"]


def test_a_removed_picture_is_made_again(tmp_path: Path) -> None:
    images = [photo(tmp_path / f"in/{n}.png") for n in "ab"]
    run(images, tmp_path / "out")
    (tmp_path / "out/a.png").unlink()
    assert run(images, tmp_path / "out").kept == 1
    assert sorted(names(tmp_path / "out")) == ["a.png", "b.png"]
    assert (tmp_path / "out/a.png").is_file()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_stay_as_they_are(tmp_path: Path, overwrite: bool, link: bool, suffix: str) -> None:
    images = [photo(tmp_path / f"in/{n}{suffix}") for n in "ab"]
    out = tmp_path / "in"
    if link:
        out = tmp_path / "out"
        out.symlink_to(tmp_path / "in")
    before = files(tmp_path)
    with pytest.raises(DataError, match="choose another --out"):
        run(images, out, Model(stop_at=0), overwrite=overwrite)
    assert files(tmp_path) == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_to_images_are_replaced_and_not_the_images(tmp_path: Path, link: Any) -> None:
    image, out = photo(tmp_path / "in/a.png"), tmp_path / "out"
    out.mkdir()
    link(image, out / "a.png")
    before = image.read_bytes()
    with pytest.raises(DataError, match="would be replaced"):
        run([image], out)
    run([image], out, overwrite=True)
    assert image.read_bytes() == before != (out / "a.png").read_bytes()


def test_pictures_do_not_come_to_lie_among_the_images(tmp_path: Path) -> None:
    """They would be predicted by the next call."""
    images = [photo(tmp_path / "a/x.jpg"), photo(tmp_path / "b/x.jpg")]
    before = files(tmp_path)
    with pytest.raises(DataError, match="contains input images"):
        run(images, tmp_path)
    assert files(tmp_path) == before


def test_files_of_others_are_replaced_only_when_asked_for(tmp_path: Path) -> None:
    images, out = [photo(tmp_path / f"in/{n}.jpg") for n in "ab"], tmp_path / "out"
    photo(out / "b.png", 7)
    (out / "a.png").symlink_to("nowhere.png")
    before = files(out)
    with pytest.raises(DataError, match=r"a\.png: would be replaced.*--overwrite"):
        run(images, out)
    with pytest.raises(DataError, match=r"b\.png: would be replaced.*--overwrite"):
        run(images[1:], out)
    assert files(out) == before
    run(images, out, overwrite=True)
    assert not (out / "nowhere.png").exists()
    assert names(out) == ["a.jpg", "b.jpg"]


def test_bad_images_are_passed_over_and_named(tmp_path: Path) -> None:
    images = [photo(tmp_path / f"in/{n}.png") for n in "abc"]
    images[1].write_bytes(images[1].read_bytes()[:60])
    images.insert(0, tmp_path / "in/gone.png")
    found = run(images, tmp_path / "out")
    assert [p.name for p in found.pictures] == ["a.png", "c.png"]
    assert [Path(str(e).split(": ")[0]).name for e in found.bad] == ["gone.png", "b.png"]
    photo(images[2])  # repaired
    found = run(images, tmp_path / "out")
    assert (found.kept, len(found.bad)) == (2, 1)
    assert sorted(names(tmp_path / "out")) == ["a.png", "b.png", "c.png"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        image = photo(tmp_path / "in" / name)
    except OSError:
        pytest.skip("the file system has no such names")
    assert find_images([tmp_path / "in"]) == [image]
    run([image], tmp_path / "out")
    run([image], tmp_path / "out", Model(stop_at=0))
    assert os.fsencode(names(tmp_path / "out")[0]) == b"caf\xe9.png"
    assert (tmp_path / "out" / name).is_file()


def test_the_digest_of_the_image_is_kept(tmp_path: Path) -> None:
    image = photo(tmp_path / "a.png")
    run([image], tmp_path / "out")
    (entry,) = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert entry["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()


def test_folders_mean_the_images_in_them(tmp_path: Path) -> None:
    b, a = photo(tmp_path / "in" / "b.png"), photo(tmp_path / "in" / "a.JPG")
    (tmp_path / "in" / "folder.png").mkdir()
    (tmp_path / "in" / "dangling.png").symlink_to("nowhere.png")
    linked = tmp_path / "in" / "linked.png"
    linked.symlink_to(b)
    below = photo(tmp_path / "in/folder.png/deep/a.JPG")
    photo(tmp_path / "in/.hidden/a.png")
    photo(tmp_path / "elsewhere/a.png")
    (tmp_path / "in/more").symlink_to(tmp_path / "elsewhere")
    others = [linked, tmp_path / "in/more/a.png"]
    assert find_images([tmp_path / "in", b]) == [a, b, below, *others, b]


def test_what_is_written_into_a_folder_of_images_is_not_predicted(tmp_path: Path) -> None:
    photo(tmp_path / "x/a.jpg")
    out = tmp_path / "out"
    for _ in range(2):
        run(find_images([tmp_path], outside=out), out, folders=[tmp_path])
        assert names(out) == ["x/a.jpg"]
    assert {n for n in files(out) if n.endswith(".png")} == {"x/a.png"}
    assert find_images([out], outside=out) == [out / "x/a.png"]


def test_names_keep_the_subfolders_of_the_given_folder(tmp_path: Path) -> None:
    """Also where all images are in one, so that more can be added later."""
    photo(tmp_path / "in/a/x.png")
    for expected in (["a/x.png"], ["a/x.png", "b/x.png"]):
        run(find_images([tmp_path / "in"]), tmp_path / "out", folders=[tmp_path / "in"])
        assert names(tmp_path / "out") == expected
        photo(tmp_path / "in/b/x.png")


def test_an_image_keeps_its_name_when_others_of_elsewhere_are_added(tmp_path: Path) -> None:
    """Names are relative to a folder that the images of a call share."""
    out = tmp_path / "out"
    images = [photo(tmp_path / f"in/{n}.png", grey) for n, grey in (("a", 1), ("sub/a", 1))]
    images.append(film(tmp_path / "in/clip.avi", frames=2))
    first = run(images, out)
    before = names(out)
    assert before == ["a.png", "sub/a.png", "clip.avi/000000.png", "clip.avi/000001.png"]
    images.append(photo(tmp_path / "more/a.png", 2))
    with pytest.raises(KeyboardInterrupt):
        run(images, out, Model(stop_at=0), label_maps=True)
    found = run(images, out, label_maps=True)
    assert names(out) == [*before, "more/a.png"]
    assert found.pictures == [*first.pictures, out / "more/a.png"]
    assert (found.kept, found.detections) == (3, 10)
    content = json.loads((out / "predictions.json").read_text())
    assert all((out / image["label_map"]).is_file() for image in content["images"])
    whole = files(out)
    for again in (images, images[:3], images[1:], images[:2]):
        assert run(again, out, Model(stop_at=0), label_maps=True).kept == len(again)
    assert files(out) == whole
    assert run(images[3:], out, Model(stop_at=0)).kept == 1  # a.png, but not that of before
    run(images, out, overwrite=True)
    assert names(out)[:2] == ["in/a.png", "in/sub/a.png"]
    assert run(images[:2], out, Model(stop_at=0)).kept == 2


def test_an_image_of_the_same_name_and_content_elsewhere_is_another(tmp_path: Path) -> None:
    images = [photo(tmp_path / f"in/{n}/a.png") for n in "xy"]
    run(images[:1], tmp_path / "out")
    assert run(images, tmp_path / "out").kept == 1
    assert names(tmp_path / "out") == ["a.png", "y/a.png"]


def numbers(path: Path) -> Any:
    with Image.open(path) as image:
        assert image.mode == "I;16"
        return np.asarray(image)


def test_label_maps_number_what_is_drawn(tmp_path: Path) -> None:
    images = [photo(tmp_path / f"in/{n}") for n in ("a.png", "a_masks.jpg", "b/a.jpg")]
    run(images, tmp_path / "out", label_maps=True)
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    found = [(i["picture"], i["label_map"]) for i in content["images"]]
    assert found == [
        ("a.png", "a_masks-2.png"),
        ("a_masks.png", "a_masks_masks.png"),
        ("b/a.png", "b/a_masks.png"),
    ]
    expected = np.zeros(SIZE, int)
    expected[5:15, 20:30] = 1
    for _, name in found:
        assert (numbers(tmp_path / "out" / name) == expected).all()
    (tmp_path / "out/a.png").unlink()
    assert run(images, tmp_path / "out", label_maps=True).kept == 2


def test_label_maps_are_added_to_what_is_done(tmp_path: Path) -> None:
    images = [photo(tmp_path / "in/a.png"), film(tmp_path / "in/clip.avi", frames=2)]
    run(images, tmp_path / "at_once", label_maps=True)
    run(images, tmp_path / "out")
    for _ in range(2):  # the second time there is nothing left to add
        done = run(images, tmp_path / "out", Model(stop_at=0), label_maps=True)
        assert done.kept == 2
        assert files(tmp_path / "out") == files(tmp_path / "at_once")


@pytest.mark.parametrize("letter", ["a", "é"])
def test_names_of_any_length_have_label_maps(letter: str, tmp_path: Path) -> None:
    """Also those that differ only in what is cut off; Linux and macOS allow 255 bytes."""
    stem = letter * (248 // len(letter.encode()))
    images = [photo(tmp_path / f"in/{stem}{n}.png") for n in "123"]
    films = [film(tmp_path / f"in/{stem}{n}.avi", frames=1) for n in "45"]
    for given in (images[:2], [*images, films[0]], [*images, *films]):
        run(given, tmp_path / "out", label_maps=True)
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    paths = [image[key] for image in content["images"] for key in ("picture", "label_map")]
    assert len(set(paths)) == 10
    assert all((tmp_path / "out" / path).is_file() for path in paths)


def test_detections_are_counted_over_all_calls(tmp_path: Path) -> None:
    images = [photo(tmp_path / f"in/{n}.png") for n in range(3)]
    run(images[:2], tmp_path / "out")
    done = run(images, tmp_path / "out")
    assert (done.detections, done.drawn) == (6, 3)  # each image has one of 0.9 and one of 0.1
    assert done.best_score == pytest.approx(0.9)
    none = run(images, tmp_path / "none", score_threshold=0.95)
    assert (none.detections, none.drawn) == (6, 0)


def test_label_maps_replace_no_file_unasked(tmp_path: Path) -> None:
    image = photo(tmp_path / "in/a.png")
    photo(tmp_path / "out/a_masks.png")
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"a_masks\.png: would be replaced"):
        run([image], tmp_path / "out", label_maps=True)
    assert files(tmp_path) == before


def test_a_video_is_predicted_frame_by_frame(tmp_path: Path) -> None:
    clip = film(tmp_path / "in/a/clip.avi", frames=5, rate=8)
    images = [photo(tmp_path / "in/a/clip.png"), clip]
    found = run(images, tmp_path / "out", label_maps=True, category_ids=(3, 7))
    out = tmp_path / "out"
    assert found.pictures == [out / "clip.png", out / "clip.mp4"]
    coco = COCO(str(out / "predictions.json"))
    _, *frames = coco.loadImgs(coco.getImgIds())
    assert [i["file_name"] for i in frames] == [f"clip.avi/00000{n}.png" for n in range(5)]
    assert [(i["video"], i["frame"], i["picture"]) for i in frames] == [
        ("clip.avi", n, "clip.mp4") for n in range(5)
    ]
    assert {(i["height"], i["width"]) for i in frames} == {SIZE}
    assert len(coco.getAnnIds(imgIds=[i["id"] for i in frames], catIds=[7])) == 5
    assert all(numbers(out / i["label_map"])[10, 25] == 1 for i in frames)
    video = Video(out / "clip.mp4")
    assert (video.length, video.rate) == (5, 8)
    drawn = list(video)
    scale = drawn[0].shape[0] // SIZE[0]
    assert drawn[0].shape == (SIZE[0] * scale, SIZE[1] * scale, 3)
    # Each frame is 20 brighter than the one before, but for the tinted square.
    assert [int(f[30 * scale, 5 * scale].mean()) for f in drawn] == pytest.approx(
        range(0, 100, 20), abs=6
    )
    assert all(np.ptp(f[10 * scale, 25 * scale].astype(int)) > 40 for f in drawn)


def test_an_interrupted_video_is_begun_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = [photo(tmp_path / "in/a.png"), film(tmp_path / "in/clip.avi", frames=4)]
    with pytest.raises(KeyboardInterrupt):
        run(images, out, Model(stop_at=3), label_maps=True)
    assert not (out / "clip.mp4").exists()
    assert not [n for n in files(out) if "partial" in n]
    assert run(images, out, Model(stop_at=4), label_maps=True).kept == 1
    assert run(images, out, Model(stop_at=0), label_maps=True).kept == 2
    assert len(names(out)) == len(set(names(out))) == 5
    run(images, tmp_path / "at_once", label_maps=True)
    assert files(tmp_path / "at_once") == files(out)


def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    class Watched(Model):
        def predict(self, images: list[np.ndarray]) -> list[Instances]:
            nonlocal most
            alive.append(weakref.ref(images[0]))
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            return super().predict(images)

    run([film(tmp_path / "clip.avi", frames=12)], tmp_path / "out", Watched())
    assert len(alive) == 12
    assert most <= 3  # decoded, written, and waited for


def test_a_video_that_cannot_be_decoded_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.mp4").write_bytes(b"no video" * 99)
    images = find_images([tmp_path / "in"], videos=True)
    images.append(tmp_path / "in/gone.mov")
    images.append(photo(tmp_path / "in/a.png"))
    found = run(images, tmp_path / "out")
    bad, gone = map(str, found.bad)
    assert bad.startswith(f"{tmp_path}/in/bad.mp4: OpenCV cannot decode this video; convert it")
    assert gone.startswith(f"{tmp_path}/in/gone.mov: no such video")
    assert names(tmp_path / "out") == ["a.png"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "suffix",
    [
        *("bmp", "dib", "gif", "ico", "jfif", "jp2", "jpe", "jpeg", "jpg", "j2k", "pbm", "pcx"),
        *("pgm", "png", "pnm", "ppm", "sgi", "tga", "tif", "tiff", "webp"),
    ],
)
def test_folders_are_searched_for_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix in ("jp2", "j2k") and not features.check("jpg_2000"):
        pytest.skip("this Pillow reads no JPEG 2000")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    assert find_images([tmp_path]) == [path]


def test_bad_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        find_images([tmp_path / "empty"])
    gone = tmp_path / "gone.png"
    with pytest.raises(DataError, match=r"gone\.png: no such file or folder"):
        find_images([gone])
    gone.symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: no such file or folder"):
        find_images([gone])
    assert find_images([gone], skip_bad=True) == [gone]


def test_files_that_are_passed_over_are_told(tmp_path: Path) -> None:
    for name in ("a.png", "b.heic", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match=r"are ignored: 2 \(b\.heic, notes\.txt\)$"):
        assert find_images([tmp_path]) == [tmp_path / "a.png"]
