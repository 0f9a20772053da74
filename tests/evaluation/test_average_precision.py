"""AP against pycocotools, boundary AP against scipy and hand calculation, and the edge cases."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import binary_erosion

from b2inst.data import CocoIndex
from b2inst.evaluation import EvaluationError, Prediction, evaluate, resample_ap

from .conftest import SIZE, annotation, box, dataset, dense_pair, prediction, random_pair

AREAS = {"small": (0, 200), "medium": (200, 700), "large": (700, 1e10)}
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class BoundaryEval(COCOeval):
    """pycocotools' matching with overlaps of boundaries, the boundaries made by scipy."""

    dilation = 0.02

    def computeIoU(self, image_id: int, category_id: int) -> Any:
        ious = np.array(super().computeIoU(image_id, category_id))
        if not ious.size:
            return []
        truth = [coco_mask.decode(a["segmentation"]) for a in self._gts[image_id, category_id]]
        found = sorted(self._dts[image_id, category_id], key=lambda d: -d["score"])
        found = found[: self.params.maxDets[-1]]
        rings = [self.ring(coco_mask.decode(detection["segmentation"])) for detection in found]
        for j, (mask, found_truth) in enumerate(
            zip(truth, self._gts[image_id, category_id], strict=True)
        ):
            if found_truth["iscrowd"]:
                continue
            b = self.ring(mask)
            for i, a in enumerate(rings):
                union = (a | b).sum()
                ious[i, j] = min(ious[i, j], (a & b).sum() / union if union else 0.0)
        return ious

    def ring(self, mask: np.ndarray) -> np.ndarray:
        width = max(1, int(np.rint(self.dilation * np.hypot(*mask.shape))))
        square = np.ones((2 * width + 1, 2 * width + 1))
        return mask.astype(bool) & ~binary_erosion(mask, square, border_value=0)


def oracle(
    truth: dict[str, Any],
    predictions: list[Prediction],
    kind: str,
    *,
    areas: dict[str, tuple[float, float]] = AREAS,
    max_detections: int = 100,
) -> list[float | None]:
    """The six APs by pycocotools in percent, as papers compute them."""
    keep = "bbox" if kind == "bbox" else "segmentation"
    results = [
        {
            "image_id": p["image_id"],
            "category_id": p["category_id"],
            "score": p["class_score" if kind == "bbox" else "score"],
            keep: copy.deepcopy(p[keep]),
        }
        for p in predictions
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator_class = BoundaryEval if kind == "boundary" else COCOeval
        evaluator = evaluator_class(
            coco, coco.loadRes(results), "bbox" if kind == "bbox" else "segm"
        )
        evaluator.params.maxDets = [1, 2, max_detections]
        evaluator.params.areaRng = [[0, 1e10], *map(list, areas.values())]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][..., 0, -1]
    if (precision > -1).any():  # the AP that it sums up is always of 100 detections
        evaluator.stats[0] = precision[precision > -1].mean()
    return [None if value < 0 else 100 * value for value in evaluator.stats[:6].tolist()]


def assert_equal(ours: list[float | None], theirs: list[float | None]) -> None:
    assert [v is None for v in ours] == [v is None for v in theirs]
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None]
    np.testing.assert_allclose(*np.array(pairs, dtype=float).reshape(-1, 2).T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "prefix"), [("segm", ""), ("bbox", "box_"), ("boundary", "boundary_")]
)
def test_equals_independent_evaluator(kind: str, prefix: str, seed: int) -> None:
    truth, predictions = random_pair(seed)
    metrics = evaluate(predictions, truth, area_ranges=AREAS)
    expected = oracle(truth, predictions, kind)
    assert sum(v is not None and 0 < v < 100 for v in expected) >= 5
    assert_equal([metrics[prefix + name] for name in NAMES], expected)


@pytest.mark.filterwarnings("ignore:1 of 2 images")
@pytest.mark.parametrize("limit", [7, 100, 300, 500])
def test_the_limit_of_detections_is_that_of_all_evaluators(limit: int) -> None:
    truth, exact = dense_pair()
    generator = np.random.default_rng(0)
    predictions = []
    for record in exact * 5:
        moved = np.roll(coco_mask.decode(record["segmentation"]), generator.integers(-1, 2), 1)
        predictions.append(prediction(10, 2, moved, *generator.random(2).tolist()))
    metrics = evaluate(predictions, truth, max_detections=limit, area_ranges=AREAS)
    resampled = resample_ap(
        predictions,
        truth,
        metrics=list(metrics),
        resamples=1,
        max_detections=limit,
        area_ranges=AREAS,
    )
    for kind, prefix in (("segm", ""), ("bbox", "box_"), ("boundary", "boundary_")):
        expected = oracle(truth, predictions, kind, max_detections=limit)
        assert_equal([metrics[prefix + name] for name in NAMES], expected)
        values = [float(resampled[prefix + name][0]) for name in NAMES]
        assert_equal([None if np.isnan(v) else v for v in values], expected)


def test_what_the_limit_hides_is_told() -> None:
    truth, exact = dense_pair(120)
    with pytest.warns(UserWarning, match="1 of 2 images \\(50.0%\\) have more than 100 objects"):
        evaluate([], truth)
    # The first 100 of 120 are found: recall 0.8333, and 84 of the 101 recall levels are below it.
    assert resample_ap(exact, truth, resamples=1)["AP"][0] == pytest.approx(100 * 84 / 101)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert evaluate(exact, truth, max_detections=120)["AP"] == 100.0
        # Of each category, and crowds are not to be found.
        half = [a | {"category_id": 2 + a["id"] % 2} for a in truth["annotations"]]
        evaluate([], truth | {"annotations": half})
        crowds = [a | {"iscrowd": int(a["id"] > 100)} for a in truth["annotations"]]
        evaluate([], truth | {"annotations": crowds})
    with pytest.raises(EvaluationError, match="max_detections is 0; give at least 1"):
        resample_ap(exact, truth, max_detections=0)
    with pytest.raises(EvaluationError, match="boundary_pixels is 0; give at least 1"):
        evaluate(exact, truth, boundary_pixels=0)


def test_equals_pycocotools_on_real_annotations() -> None:
    """Polygons, uncompressed crowds and COCO's own size ranges, with made-up detections."""
    folder = os.environ.get("B2INST_COCO_TINY")
    if not folder:
        pytest.skip("B2INST_COCO_TINY names no COCO subset")
    file = Path(folder) / "annotations" / "instances_val2017.json"
    truth = json.loads(file.read_text())
    truth["images"] = truth["images"][:24]
    some = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in some]
    assert any(a["iscrowd"] for a in truth["annotations"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
    generator = np.random.default_rng(0)
    predictions = []
    for found in truth["annotations"]:
        mask = np.roll(coco.annToMask(found), generator.integers(-3, 4, 2), axis=(0, 1))
        predictions.append(
            prediction(found["image_id"], found["category_id"], mask, *generator.random(2).tolist())
        )
    metrics = evaluate(predictions, CocoIndex.load(file).subset(some))
    areas = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
    for kind, prefix in (("segm", ""), ("bbox", "box_")):
        expected = oracle(truth, predictions, kind, areas=areas)
        assert_equal([metrics[prefix + name] for name in NAMES], expected)


def square(side: int, shift: int = 0) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[10 : 10 + side, 10 + shift : 10 + side + shift] = True
    return mask


def test_boundary_ap_of_a_shifted_square() -> None:
    """The image's diagonal is 120 pixels: boundaries are 2 pixels wide by default.

    Moved by m pixels, a square of side s has IoU (s - m)/(s + m). Its boundary, of width d >= m,
    overlaps by s(s - m) - (s - 2d)(s - 2d + m) of s² - (s - 2d)² pixels.
    """
    assert np.hypot(*SIZE) == 120
    truth = dataset([annotation(1, 10, 2, square(40))], images=1)

    moved_by_two = evaluate([prediction(10, 2, square(40, 2), 0.9)], truth)
    assert moved_by_two["AP"] == pytest.approx(90)  # 38/42 = 0.905 reaches 9 of 10 thresholds
    assert moved_by_two["boundary_AP"] == 0  # 152/456 = 1/3

    moved_by_one = evaluate([prediction(10, 2, square(40, 1), 0.9)], truth, boundary_pixels=4)
    assert moved_by_one["AP"] == pytest.approx(100)  # 39/41 = 0.951
    assert moved_by_one["boundary_AP"] == pytest.approx(60)  # 504/648 = 0.778
    assert moved_by_one["boundary_AP75"] == pytest.approx(100)


def test_perfect_predictions_score_100(pair: tuple[dict[str, Any], list[Prediction]]) -> None:
    truth, _ = pair
    perfect = [
        prediction(a["image_id"], a["category_id"], coco_mask.decode(a["segmentation"]), 0.5)
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]
    metrics = evaluate(perfect, truth, area_ranges=AREAS)
    assert all(value == pytest.approx(100) for value in metrics.values())


def test_boxes_are_ranked_by_the_class_score_masks_by_the_score(
    pair: tuple[dict[str, Any], list[Prediction]],
) -> None:
    truth, predictions = pair
    before = evaluate(predictions, truth)
    other = [p | {"class_score": 1 - p["class_score"]} for p in predictions]
    after = evaluate(other, truth)
    for name in NAMES:
        assert after[name] == before[name]
        assert after[f"boundary_{name}"] == before[f"boundary_{name}"]
    assert after["box_AP"] != before["box_AP"]
    foreign = [{k: v for k, v in p.items() if k != "class_score"} for p in predictions]
    alike = [p | {"class_score": p["score"]} for p in predictions]
    assert evaluate(foreign, truth) == evaluate(alike, truth)


def test_no_predictions_score_0(pair: tuple[dict[str, Any], list[Prediction]]) -> None:
    metrics = evaluate([], pair[0], area_ranges=AREAS)
    assert len(metrics) == 18
    assert set(metrics.values()) == {0.0}


def test_predictions_that_are_read_only_once_are_refused(
    pair: tuple[dict[str, Any], list[Prediction]],
) -> None:
    truth, predictions = pair
    with pytest.raises(EvaluationError, match="can be read only once; give a list"):
        evaluate(iter(predictions), truth)  # type: ignore[arg-type]


def test_without_annotations_there_is_no_ap() -> None:
    found = [prediction(10, 2, square(20), 0.9)]
    assert set(evaluate(found, dataset([], images=2)).values()) == {None}


def test_an_empty_size_range_is_none(pair: tuple[dict[str, Any], list[Prediction]]) -> None:
    truth, predictions = pair
    metrics = evaluate(predictions, truth)  # no ellipse has 96² pixels
    assert metrics["APl"] is metrics["boundary_APl"] is metrics["box_APl"] is None
    assert metrics["APs"] is not None
    assert metrics["AP"] == evaluate(predictions, truth, area_ranges=AREAS)["AP"]


def test_sizes_go_by_the_mask_not_by_its_box() -> None:
    """A thin line has few pixels in a wide box: unmatched, it counts among the small only."""
    line = np.zeros(SIZE, dtype=bool)
    line[np.arange(60), np.arange(60)] = True
    assert box(line)[2:] == [60, 60]
    truth = dataset([annotation(1, 10, 2, square(40)), annotation(2, 11, 2, square(10))], images=2)
    found = [
        prediction(10, 2, line, 0.9),
        prediction(10, 2, square(40), 0.8),
        prediction(11, 2, square(10), 0.8),
    ]
    metrics = evaluate(found, truth)
    assert metrics["APm"] == pytest.approx(100)
    assert metrics["APs"] == pytest.approx(50)
    assert_equal([metrics[f"box_{name}"] for name in NAMES], oracle(truth, found, "bbox", areas={
        "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10),
    }))  # fmt: skip
    assert metrics["box_APm"] == pytest.approx(50)


def test_an_empty_mask_is_a_false_positive(pair: tuple[dict[str, Any], list[Prediction]]) -> None:
    truth, predictions = pair
    empty = prediction(10, 2, np.zeros(SIZE, dtype=bool), 0.99)
    metrics = evaluate([empty, *predictions], truth, area_ranges=AREAS)
    assert_equal([metrics[n] for n in NAMES], oracle(truth, [empty, *predictions], "segm"))
    before = evaluate(predictions, truth)
    assert metrics["boundary_AP"] is not None
    assert before["boundary_AP"] is not None
    assert metrics["boundary_AP"] <= before["boundary_AP"]


def test_annotation_id_0_counts() -> None:
    """The evaluators take id 0 for "unmatched"."""
    truth = dataset([annotation(0, 10, 2, square(20))], images=1)
    assert evaluate([prediction(10, 2, square(20), 0.9)], truth)["AP"] == pytest.approx(100)


#: In ascending order, as the small ids that they stand for.
LARGE_IDS = [-7, 0, 1, 2**53, *(20250131120000001 + i for i in range(20)), 2**63, 2**64 + 1, 2**70]


def test_ids_that_floating_point_numbers_cannot_tell_apart() -> None:
    """Only the ids differ, so no number may."""
    truth, predictions = random_pair(1, images=len(LARGE_IDS))
    images = dict(zip(range(10, 10 + len(LARGE_IDS)), LARGE_IDS, strict=True))
    categories = {2: 0, 3: 2**53, 7: 2**53 + 1}

    def renamed(record: dict[str, Any]) -> dict[str, Any]:
        ids = {"image_id": images[record["image_id"]]}
        return record | ids | {"category_id": categories[record["category_id"]]}

    for p in predictions:  # ties, where the order of images decides
        p["score"] = p["class_score"] = round(p["score"], 1)
    other = truth | {
        "images": [i | {"id": images[i["id"]]} for i in truth["images"]],
        "annotations": [renamed(a) | {"id": a["id"] + 2**60} for a in truth["annotations"]],
        "categories": [c | {"id": categories[c["id"]]} for c in truth["categories"]],
    }
    found = [renamed(p) for p in predictions]
    assert evaluate(found, other) == evaluate(predictions, truth)
    metrics = ["AP", "boundary_AP", "box_AP"]
    one, same = (resample_ap(p, t, metrics=metrics, resamples=5) for p, t in (
        (predictions, truth), (found, other)
    ))  # fmt: skip
    for metric in metrics:
        np.testing.assert_array_equal(one[metric], same[metric])
    with pytest.raises(EvaluationError, match=f"image_id {2**63 + 1} is not among"):
        evaluate([found[0] | {"image_id": 2**63 + 1}], other)


def test_input_is_left_alone(pair: tuple[dict[str, Any], list[Prediction]], tmp_path: Path) -> None:
    truth, predictions = pair
    copies = copy.deepcopy(pair)
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(truth))
    assert evaluate(predictions, truth) == evaluate(predictions, file)
    assert (truth, predictions) == copies


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": float("nan")}, "prediction 0: score is nan: .* finite"),
        ({"image_id": 5}, "prediction 0: image_id 5 is not among the images evaluated"),
        ({"category_id": 5}, "prediction 0: category_id 5 is not among the categories evaluated"),
        ({"segmentation": {"size": [5, 5], "counts": "0"}}, "prediction 0: its mask is 5×5"),
        ({"bbox": None}, "prediction 0: bbox is None: not four numbers"),
        ({"score": "high"}, "prediction 0: score is 'high': .* number"),
    ],
)
def test_bad_predictions_are_named(changes: dict[str, Any], message: str) -> None:
    truth = dataset([annotation(1, 10, 2, square(20))], images=1)
    with pytest.raises(EvaluationError, match=message):
        evaluate([prediction(10, 2, square(20), 0.9) | changes], truth)
