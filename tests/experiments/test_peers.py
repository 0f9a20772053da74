"""What the scripts of the peers do without a peer: labels, results, outlines, records, table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, find_split
from b2inst.experiments import load_profile

SIZE = 64


@pytest.fixture(scope="module")
def peer(load_script: Callable[[str], ModuleType]) -> Callable[[str], ModuleType]:
    """Gives a script of the folder; they find each other as they do when they are run."""

    def load(name: str) -> ModuleType:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(Path(__file__).parents[2] / "experiments/peers")
            return load_script(f"peers/{name}")

    return load


@pytest.fixture(scope="module")
def coco_files(peer: Callable[[str], ModuleType]) -> ModuleType:
    return peer("coco_files")


@pytest.fixture(scope="module")
def yolo(peer: Callable[[str], ModuleType]) -> ModuleType:
    return peer("yolo_nuclei")


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two RGBA images of four squares, two of which touch."""
    folder = tmp_path_factory.mktemp("nuclei")
    images, annotations = [], []
    for number in (3, 8):
        name = f"{number}.png"
        (folder / "test").mkdir(exist_ok=True)
        Image.new("RGBA", (SIZE, SIZE), (number, 20, 30, 255)).save(folder / "test" / name)
        images.append({"id": number, "file_name": name, "height": SIZE, "width": SIZE})
        for row, column in ((2, 3), (2, 13), (30, 5), (40, 40)):
            mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
            mask[row : row + 10, column : column + 10] = 1
            code = coco_mask.encode(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": code | {"counts": code["counts"].decode()},
                    "bbox": [column, row, 10, 10],
                    "area": 100,
                    "iscrowd": 0,
                }
            )
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "nucleus"}]
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_test.json").write_text(json.dumps(content))
    return folder


def test_where_objects_overlap_the_smaller_is_seen(coco_files: ModuleType) -> None:
    small, large = np.zeros((2, 8, 8), bool)
    small[2:4, 2:4] = large[1:6, 1:6] = True
    for masks in ([small, large], [large, small]):
        labels = coco_files.to_labels(masks, (8, 8))
        inner = labels[2, 2]
        assert np.array_equal(labels == inner, small)
        assert np.array_equal(labels > 0, large)


def test_results_leave_out_what_is_not_seen(
    coco_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_files, "MAX_DETECTIONS", 2)
    masks = np.zeros((4, 8, 8), bool)
    masks[0, 1:3, 4:7] = masks[2, 5, 5] = masks[3, 0, 0] = True
    found = coco_files.to_results(7, iter(masks), [0.9, 0.8, 0.7, 0.6])
    assert [(r["image_id"], r["score"], r["bbox"]) for r in found] == [
        (7, 0.9, [4, 1, 3, 2]),
        (7, 0.7, [5, 5, 1, 1]),
    ]
    assert np.array_equal(coco_mask.decode(found[0]["segmentation"]), masks[0])


def test_true_label_images_are_perfect_predictions(
    coco_files: ModuleType, peer: Callable[[str], ModuleType], nuclei: Path, tmp_path: Path
) -> None:
    results = []
    for image_id, path, image, masks in coco_files.read_split(nuclei, "test"):
        assert path.name == f"{image_id}.png"
        assert image.shape == (SIZE, SIZE, 3)
        assert image[0, 0].tolist() == [image_id, 20, 30]
        labels = coco_files.to_labels(masks, image.shape[:2])
        seen = (labels == number for number in range(1, len(masks) + 1))
        results += coco_files.to_results(image_id, seen, [0.5] * len(masks))
    coco_files.write_json(tmp_path / "test.json", results)
    table = peer("table")
    index = CocoIndex.load(*find_split(nuclei, "test"))
    record = {"predictions": "test.json", "tuned_predictions": "test.json", "parameters": 1_500_000}
    line = table.peer_line(record, index, load_profile("nuclei"), tmp_path)
    for name in ("AP", "AP75", "boundary_AP", "dsb_AP50", "dsb_AP90", "PQ"):
        assert line[name] == pytest.approx(100), name
    text = table.to_markdown({"labels": line}).splitlines()
    cells = dict(zip(*([c.strip() for c in text[i].split("|")[1:-1]] for i in (0, 2)), strict=True))
    assert cells["AP"] == cells["boundary AP"] == cells["PQ"] == "100.0"
    assert cells["parameters, millions"] == "1.50"
    assert cells["prediction, ms an image"] == "–"


@given(
    center=st.tuples(*[st.integers(20, 44)] * 2),
    axes=st.tuples(*[st.integers(1, 18)] * 2),
    angle=st.integers(0, 180),
)
def test_outlines_drawn_as_the_peer_draws_them_are_the_masks(
    yolo: ModuleType, center: tuple[int, int], axes: tuple[int, int], angle: int
) -> None:
    mask = cv2.ellipse(np.zeros((SIZE, SIZE), np.uint8), center, axes, angle, 0, 360, 1, -1)
    outline = yolo.polygon(mask.astype(bool))
    drawn = cv2.fillPoly(np.zeros_like(mask), [outline.astype(np.int32)], 1)
    assert np.array_equal(drawn, mask)
    for scale in (2, 3):  # and enlarged, without losing the right and lower sides
        drawn = np.zeros((scale * SIZE, scale * SIZE), np.uint8)
        cv2.fillPoly(drawn, [(outline * scale).astype(np.int32)], 1)
        assert np.array_equal(drawn, mask.repeat(scale, 0).repeat(scale, 1))


def test_the_outline_is_of_the_largest_piece(yolo: ModuleType) -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[2:5, 2:5] = mask[20:40, 30:50] = True
    mask[25:30, 35:40] = False
    outline = yolo.polygon(mask)
    assert outline.min(0) == pytest.approx([30, 20], abs=0.2)
    assert outline.max(0) == pytest.approx([50, 40], abs=0.2)
    assert len(outline) == 4


def test_a_done_run_is_not_done_again(
    peer: Callable[[str], ModuleType],
    nuclei: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = peer("run")
    script = tmp_path / "peer.py"
    script.write_text(
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "stage, folder = sys.argv[1], Path(sys.argv[3])\n"
        "print('out of', 'memory')\n"
        "if stage == 'predict' and not Path('ready').exists(): raise SystemExit(2)\n"
        "told = {'threads': os.environ['OMP_NUM_THREADS'], 'told': sys.argv[4:]}\n"
        "content = {'training_cpu_minutes': 1.5} if stage == 'train' else {}\n"
        "(folder / f'{stage}.json').write_text(json.dumps(content | {stage: told}))\n"
        "with open('stages', 'a') as file: file.write(stage + ' ')\n"
    )
    monkeypatch.setattr(run, "PEERS", {"fake": (script, ("nothing==1",))})
    monkeypatch.setattr(run, "environment", lambda folder, packages: Path(sys.executable))
    monkeypatch.chdir(tmp_path)

    def call(**options: object) -> None:
        told = {"options": ["--batch", "4"], "cpu_minutes": 2.0, "threads": 2, "name": ""}
        run.main("fake", nuclei, **(told | {"envs": tmp_path, "rerun": False} | options))

    with pytest.raises(typer.Exit):
        call()
    assert "predict.txt: exit status 2: out of memory" in capsys.readouterr().err
    (tmp_path / "ready").touch()
    for _ in range(2):
        call()
    assert (tmp_path / "stages").read_text() == "train predict "
    record = json.loads((tmp_path / "results/nuclei/peers/records/fake-2.json").read_text())
    assert record["train"] == {"threads": "2", "told": ["--cpu-minutes", "2.0", "--batch", "4"]}
    assert record["predict"] == {"threads": "1", "told": []}
    assert record["predictions"] == "runs/peers/fake-2/test.json"
    assert record["provenance"]["cpu"]
    call(rerun=True)
    assert (tmp_path / "stages").read_text() == "train predict " * 2
    with pytest.raises(typer.BadParameter, match="no nuclei; run `b2inst data nuclei"):
        run.main("fake", tmp_path)
    with pytest.raises(typer.BadParameter, match="no such peer; there are fake"):
        run.main("other", nuclei)
