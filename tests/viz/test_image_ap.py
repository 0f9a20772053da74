from __future__ import annotations

import numpy as np
import pytest

from b2inst.evaluation import Prediction, evaluate
from b2inst.viz.image_ap import boundary_ap_by_image

from .conftest import SIZE, prediction, square

CATEGORIES = [{"id": 3, "name": "star"}, {"id": 7, "name": "gear"}]


def truth() -> dict:
    """Two squares of different classes in images 1 and 2, none in image 5."""
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2, 5)
    ]
    annotations = []
    for image in (1, 2):
        for category, (top, left) in ((3, (2, 2)), (7, (18, 20))):
            found = prediction(image, square(top, left, 16), category=category)
            kept = {k: found[k] for k in ("image_id", "category_id", "bbox", "segmentation")}
            annotations.append(kept | {"id": len(annotations) + 1, "area": 256.0, "iscrowd": 0})
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


NOTCHED = square(2, 2, 16) & ~square(14, 14, 4)

PREDICTIONS: list[Prediction] = [
    prediction(1, square(2, 2, 16), category=3, score=0.6),
    prediction(1, square(20, 22, 15), category=7, score=0.9),
    prediction(1, square(4, 20, 9), category=7, score=0.95),
    prediction(2, NOTCHED, category=3, score=0.8),
    prediction(5, square(2, 2, 16), category=3, score=0.7),
]


@pytest.mark.parametrize("image", [1, 2])
def test_it_is_the_ap_of_the_image_alone(image: int) -> None:
    found = boundary_ap_by_image(PREDICTIONS, truth())
    own = {key: truth()[key] for key in ("images", "annotations")}
    own["images"] = [record for record in own["images"] if record["id"] == image]
    own["annotations"] = [record for record in own["annotations"] if record["image_id"] == image]
    predictions = [p for p in PREDICTIONS if p["image_id"] == image]
    alone = evaluate(predictions, truth() | own)["boundary_AP"]
    assert alone is not None
    assert 0 < alone < 100
    assert found[image] == pytest.approx(alone)


def test_images_without_objects_are_left_out() -> None:
    assert set(boundary_ap_by_image(PREDICTIONS, truth())) == {1, 2}
    assert set(boundary_ap_by_image(PREDICTIONS, truth(), image_ids=[2, 5])) == {2}


def test_images_keep_their_ids_however_large() -> None:
    ids = {1: 2**53 + 1, 2: 2**53, 5: -1}
    large = truth()
    for record in (*large["images"], *large["annotations"]):
        key = "image_id" if "image_id" in record else "id"
        record[key] = ids[record[key]]
    predictions = [p | {"image_id": ids[p["image_id"]]} for p in PREDICTIONS]
    expected = boundary_ap_by_image(PREDICTIONS, truth())
    assert expected[1] != expected[2]
    assert boundary_ap_by_image(predictions, large) == {ids[i]: v for i, v in expected.items()}


def test_nothing_predicted_is_zero() -> None:
    found = boundary_ap_by_image([], truth())
    assert np.allclose(list(found.values()), 0)
    assert set(found) == {1, 2}
