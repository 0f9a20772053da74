from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from b2inst import Result
from b2inst.evaluation import EvaluationError

SIZE = (40, 48)


def found(count: int = 2, **changes: Any) -> Result:
    """Of two: a gear of 10×10 pixels, surely, and a star of one pixel, hardly."""
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[0, 5:15, 20:30] = True
    masks[1, 0, 0] = True
    fields: dict[str, Any] = {
        "boxes": torch.tensor([[20.0, 5, 30, 15], [0, 0, 1, 1]]),
        "scores": torch.tensor([0.9, 0.1]),
        "class_scores": torch.tensor([0.95, 0.2]),
        "labels": torch.tensor([1, 0]),
        "masks": masks,
        "iou_scores": torch.tensor([0.9, 0.05]),
        "class_names": ("star", "gear"),
        "image": np.full((*SIZE, 3), 90, dtype=np.uint8),
    }
    return Result(**fields | changes)[:count]


def test_repr_is_short() -> None:
    assert repr(found()) == "<2 instances in 40×48 pixels>"


def test_selected_instances_keep_their_image() -> None:
    result = found(category_ids=(3, 7))
    sure = result[result.scores > 0.5].to("cpu")
    assert isinstance(sure, Result)
    assert sure.names == ["gear"]
    assert sure.image is result.image
    assert sure.category_ids == (3, 7)


def test_results_can_be_searched_and_be_keys() -> None:
    """As models and other objects of tensors, one equals itself only."""
    results = [found(), found()]
    assert results.index(results[1]) == 1
    assert found() not in results
    assert len({*results, results[0]}) == 2


def drawn(figure: Any) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file)
    return np.asarray(Image.open(file).convert("RGB"))


def test_plot_shows_what_is_sure() -> None:
    pixels = drawn(found().plot(captions=False))
    scale = pixels.shape[0] // SIZE[0]
    assert pixels.shape == (SIZE[0] * scale, SIZE[1] * scale, 3)
    changed = (pixels != 90).any(-1)
    expected = found().masks[0].numpy().repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(changed, expected)


def test_plot_shows_more_on_demand() -> None:
    assert (drawn(found().plot())[0, 0] == 90).all()
    assert (drawn(found().plot(score_threshold=0.05))[0, 0] != 90).any()


def test_plot_of_nothing_is_the_image() -> None:
    assert (drawn(found(0).plot()) == 90).all()


def test_axes_count_pixels_of_the_image() -> None:
    figure = found().plot()
    assert figure.axes[0].get_xlim() == (0, SIZE[1])
    assert figure.axes[0].get_ylim() == (SIZE[0], 0)


def test_coco_tools_read_the_results() -> None:
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": 7, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [],
        "categories": [{"id": 3, "name": "star"}, {"id": 8, "name": "gear"}],
    }
    coco.createIndex()
    records = json.loads(json.dumps(found().to_coco(7, category_ids=[3, 8])))
    (gear,) = (loaded := coco.loadRes(records)).loadAnns(loaded.getAnnIds(catIds=[8]))
    assert gear["bbox"] == [20, 5, 10, 10]
    assert gear["score"] == pytest.approx(0.9)
    assert gear["iou_score"] == pytest.approx(0.9)
    assert "boundary_score" not in gear
    np.testing.assert_array_equal(loaded.annToMask(gear), found().masks[0])


@pytest.mark.parametrize(
    ("known", "asked", "expected"),
    [((), None, [2, 1]), ((30, 40), None, [40, 30]), ((30, 40), (5, 6), [6, 5])],
)
def test_category_ids_are_asked_known_or_counted(
    known: tuple[int, ...], asked: tuple[int, ...] | None, expected: list[int]
) -> None:
    records = found(category_ids=known).to_coco(category_ids=asked)
    assert [record["category_id"] for record in records] == expected


def test_nothing_found_is_an_empty_list() -> None:
    assert found(0).to_coco() == []


def test_a_label_without_category_is_named() -> None:
    with pytest.raises(EvaluationError, match="label 1 has no category"):
        found().to_coco(category_ids=[3])


def test_supervision_is_handed_all_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    detections = found().to_supervision()
    assert detections.xyxy.tolist() == [[20, 5, 30, 15], [0, 0, 1, 1]]
    assert detections.class_id.tolist() == [1, 0]
    assert detections.confidence.tolist() == pytest.approx([0.9, 0.1])
    assert detections.mask.dtype == bool
    assert detections.mask.sum((1, 2)).tolist() == [100, 1]
    assert detections.data["class_name"].tolist() == ["gear", "star"]
    assert detections.data["class_score"].tolist() == pytest.approx([0.95, 0.2])
    assert detections.data["iou_score"].tolist() == pytest.approx([0.9, 0.05])
    assert "boundary_score" not in detections.data


def test_supervision_takes_it() -> None:
    pytest.importorskip("supervision")
    assert found(0).to_supervision().is_empty()
    assert found().to_supervision()[0].data["class_name"].tolist() == ["gear"]


def test_without_supervision_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        found().to_supervision()
