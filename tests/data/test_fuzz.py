"""What ``data check`` calls ok, training and evaluation take, and none of it is lost."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data import CocoDataset, CocoIndex, DataError, check_coco, verify_images
from b2inst.evaluation import evaluate

from .conftest import CONTENT

NAN, INF = float("nan"), float("inf")
ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 2**64, -(2**53) - 1, 0.5, 1e-9, 1e300, NAN, INF,
    "", "7", "a.png", "../a.png", "é\ud800", [], [[]], [1, 2], [[1, 2, 3, 4]], {}, {"id": 1},
    {"size": [20, 30], "counts": [600]}, {"size": [20, 30], "counts": ""},
    [[5, 5, 5.2, 5, 5.2, 15, 5, 15]], {"exterior": [1, 1, 9, 1, 9, 9], "interiors": [[2, 2, 4, 2]]},
    [[[1, 1], [9, 1], [9, 9]]], [2, 3, 0, 10], [0, 0, 0, 0],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON document, but its own."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*path, key))
    return found


def mutate(content: Any, draw: random.Random) -> None:
    """Change one value, or the list or object that it is in."""
    *path, key = draw.choice(places(content))
    parent = content
    for step in path:
        parent = parent[step]
    kind = draw.randrange(6)
    value = parent[key]
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(draw.randrange(len(parent) + 1), copy.deepcopy(value))
    elif kind == 2 and isinstance(value, int | float):
        parent[key] = draw.choice(
            [-value, value + 1, value * 2, value / 2, float(value), str(value)]
        )
    elif kind == 3 and isinstance(parent, dict):
        parent[draw.choice([key.upper(), "id", "iscrowd", "size"])] = parent.pop(key)
    elif kind == 4 and isinstance(parent, list):
        parent[key] = parent[draw.randrange(len(parent))]
    else:
        parent[key] = copy.deepcopy(draw.choice(ODD_VALUES))


@pytest.fixture(scope="module")
def image_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in "abc":
        Image.new("RGB", (30, 20)).save(folder / f"{name}.png")
    return folder


def as_it_is(image: Any, shapes: Any) -> Any:
    return image, shapes


def count_everywhere(file: Path, images: Path) -> tuple[int, int]:
    """Images and annotations, which all that read the file must agree on; it is sound."""
    report = check_coco(split=f"{file}:{images}")
    index = CocoIndex.load(file, images)
    dataset = CocoDataset(index, as_it_is)
    samples = [dataset[i][1] for i in range(len(index))]
    learned = sum(len(sample.labels) for sample in samples)
    checked = report.splits[0]
    assert len(index) == len(checked)
    assert learned == sum(not a.crowd for a in checked.all_annotations())
    assert sum(len(sample.crowds) for sample in samples) == sum(
        a.crowd for a in checked.all_annotations()
    )
    perfect = [
        {
            "image_id": image.id,
            "category_id": index.category_ids[a.label],
            "bbox": list(a.bbox),
            "score": 1.0,
            "segmentation": encode(a.mask()),
        }
        for image in index.images
        for a in index.annotations[image.id]
        if not a.crowd
    ]
    found = evaluate(perfect, file)
    assert (found["AP"], found["boundary_AP"]) == pytest.approx((100, 100))
    return len(checked), sum(1 for _ in checked.all_annotations())


def encode(mask: np.ndarray) -> dict[str, Any]:
    code = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def left_out_with_a_note(index: CocoIndex) -> int:
    lines = [n for n in index.notes if "annotations that cover no pixel (left out): " in n]
    return int(lines[0].split("(left out): ")[1].split()[0]) if lines else 0


@pytest.mark.parametrize("block", range(4))
def test_mutated_annotation_files(block: int, image_dir: Path, tmp_path: Path) -> None:
    sound = 0
    for seed in range(200 * block, 200 * (block + 1)):
        draw = random.Random(seed)
        content = copy.deepcopy(CONTENT)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            mutate(content, draw)
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(content))
        try:
            report = check_coco(split=f"{file}:{image_dir}")
        except DataError:  # no COCO file at all
            with pytest.raises(DataError, match=re.escape(str(file))):
                CocoIndex.load(file, image_dir, skip_bad=True)
            continue
        assert all(p.startswith((str(file), str(image_dir))) for p in report.problems), seed
        if report.ok:
            sound += 1
            images, annotations = count_everywhere(file, image_dir)
            index = CocoIndex.load(file, image_dir)
            assert images == len(content["images"])
            assert annotations + left_out_with_a_note(index) == len(content["annotations"]), seed
        else:
            part = CocoIndex.load(file, image_dir, skip_bad=True)
            part = verify_images(part, skip_bad=True)
            checked = report.splits[0]
            assert len(part) == len(checked)
            dataset = CocoDataset(part, as_it_is)
            learned = sum(len(dataset[i][1].labels) for i in range(len(part)))
            assert learned == sum(not a.crowd for a in checked.all_annotations()), seed
    assert sound > 20  # mutations that break everything would test nothing


@pytest.mark.parametrize("seed", range(60))
def test_damaged_text(seed: int, image_dir: Path, tmp_path: Path) -> None:
    draw = random.Random(seed)
    text = bytearray(json.dumps(CONTENT).encode())
    for _ in range(draw.choice((1, 3))):
        text[draw.randrange(len(text))] = draw.randrange(256)
    if draw.random() < 0.2:
        del text[draw.randrange(len(text)) :]
    file = tmp_path / "instances.json"
    file.write_bytes(text)
    try:
        report = check_coco(split=f"{file}:{image_dir}")
    except DataError:
        return
    if report.ok:
        count_everywhere(file, image_dir)


def damaged_image(draw: random.Random, folder: Path) -> Path:
    """A small image in some format and mode, of which some bytes are others or missing."""
    suffix, modes = draw.choice(
        [
            ("png", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
            ("jpg", ("L", "RGB", "CMYK")),
            ("tif", ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB")),
            ("gif", ("L", "P", "RGB")),
            ("bmp", ("1", "L", "P", "RGB")),
            ("webp", ("RGB", "RGBA")),
            ("ppm", ("1", "L", "RGB", "I")),
        ]
    )
    mode = draw.choice(modes)
    pixels = np.random.default_rng(draw.randrange(99)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if mode.startswith(("I", "F")):
        picture = Image.fromarray(
            pixels[..., 0].astype({"F": np.float32, "I": np.int32}.get(mode, np.uint16))
        )
    elif mode == "LAB":
        picture = Image.merge("LAB", picture.split())
    else:
        picture = picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = draw.choice([1, 6, 0, 9])
    path = folder / f"a.{suffix}"
    picture.save(path, **({"exif": exif} if suffix in ("jpg", "png", "webp", "tif") else {}))
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((0, 1, 1, 3, 10))):
        content[draw.randrange(len(content))] = draw.randrange(256)
    if draw.random() < 0.3:
        del content[draw.randrange(1, len(content)) :]
    path.write_bytes(content)
    return path


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged metadata
@pytest.mark.parametrize("block", range(5))
def test_damaged_images(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check calls ok, training reads; the size is the one that it found."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # or damaged sizes take gigabytes
    outcomes = set()
    for seed in range(40 * block, 40 * (block + 1)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = damaged_image(random.Random(seed), folder)
        for height, width in ((20, 30), (30, 20)):
            content = copy.deepcopy(CONTENT)
            content["images"] = [
                {"id": 7, "file_name": path.name, "height": height, "width": width}
            ]
            content["annotations"] = content["annotations"][:1]
            file = folder / "instances.json"
            file.write_text(json.dumps(content))
            report = check_coco(split=f"{file}:{folder}")
            dataset = CocoDataset(CocoIndex.load(file, folder), as_it_is)
            outcomes.add(report.ok or report.problems[0].split(": ")[1][:16])
            if report.ok:
                assert dataset[0][0].shape == (3, height, width), seed
            else:
                with pytest.raises(DataError):
                    dataset[0]
    assert {True, "unreadable image", "the upright imag"} <= outcomes
