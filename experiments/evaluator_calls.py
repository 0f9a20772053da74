"""Mask AP of a results file by one evaluator; ``evaluators.py`` runs it.

    python evaluator_calls.py CALL TRUTH.json RESULTS.json

It runs in the evaluator's own environment, where b2inst is not installed. The last line printed is
AP, AP50, AP75, APs, APm and APl as a JSON list of fractions; null where the evaluator has none.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Content = dict[str, Any]
Records = list[dict[str, Any]]
Values = list[float | None]

#: The largest number of detections of an image that Ultralytics keeps.
ULTRALYTICS_DETECTIONS = 300


def pycocotools(truth: Content, results: Records) -> Values:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _coco_api(COCO, COCOeval, truth, results)


def faster_coco_eval(truth: Content, results: Records) -> Values:
    from faster_coco_eval import COCO, COCOeval_faster

    return _coco_api(COCO, COCOeval_faster, truth, results)


def hotcoco(truth: Content, results: Records) -> Values:
    from hotcoco import COCO, COCOeval

    return _coco_api(COCO, COCOeval, truth, results)


def _coco_api(coco: Any, coco_eval: Any, truth: Content, results: Records) -> Values:
    known = coco()
    known.dataset = truth
    known.createIndex()
    evaluator = coco_eval(known, known.loadRes(results), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return list(evaluator.stats[:6])


def without_boxes(truth: Content, results: Records) -> Values:
    """pycocotools takes the area of a detection from its box, where it has one."""
    return pycocotools(truth, [{k: v for k, v in r.items() if k != "bbox"} for r in results])


def ties(truth: Content, results: Records) -> Values:
    """Scores to one digit, so that many are equal."""
    return pycocotools(truth, [r | {"score": round(r["score"], 1)} for r in results])


def ties_in_reverse(truth: Content, results: Records) -> Values:
    """The same detections from the last to the first."""
    return ties(truth, results[::-1])


def crowds_as_objects(truth: Content, results: Records) -> Values:
    plain = [annotation | {"iscrowd": 0} for annotation in truth["annotations"]]
    return pycocotools(truth | {"annotations": plain}, results)


def without_crowds(truth: Content, results: Records) -> Values:
    single = [annotation for annotation in truth["annotations"] if not annotation["iscrowd"]]
    return pycocotools(truth | {"annotations": single}, results)


def lvis(truth: Content, results: Records) -> Values:
    """Every category is annotated in every image, as in COCO."""
    from lvis import LVIS, LVISEval, LVISResults

    ids = [category["id"] for category in truth["categories"]]
    lists = {"neg_category_ids": ids, "not_exhaustive_category_ids": []}
    content = truth | {
        "images": [image | lists for image in truth["images"]],
        "categories": [category | {"frequency": "f"} for category in truth["categories"]],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "truth.json"
        file.write_text(json.dumps(content))
        known = LVIS(str(file))
    evaluator = LVISEval(known, LVISResults(known, results), "segm")
    evaluator.run()
    return [evaluator.get_results()[n] for n in ("AP", "AP50", "AP75", "APs", "APm", "APl")]


def supervision(truth: Content, results: Records) -> Values:
    import numpy as np
    from supervision import Detections
    from supervision.metrics import MeanAveragePrecision, MetricTarget

    metric = MeanAveragePrecision(MetricTarget.MASKS)
    for size, objects, found in _images(truth, results):
        detections = Detections(
            xyxy=_corners(found),
            mask=_masks(found, size).astype(bool),
            confidence=np.array([r["score"] for r in found]),
            class_id=_of(found, "category_id"),
        )
        targets = Detections(
            xyxy=_corners(objects),
            mask=_masks(objects, size).astype(bool),
            class_id=_of(objects, "category_id"),
            data={"iscrowd": _of(objects, "iscrowd"), "area": _of(objects, "area")},
        )
        metric.update(detections, targets)
    found = metric.compute()
    sizes = (found.small_objects, found.medium_objects, found.large_objects)
    return [found.map50_95, found.map50, found.map75, *(s.map50_95 for s in sizes)]


def torchmetrics(truth: Content, results: Records, **options: Any) -> Values:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(iou_type="segm", **options)
    for size, objects, found in _images(truth, results):
        detections = {
            "masks": torch.from_numpy(_masks(found, size)).bool(),
            "scores": torch.tensor([r["score"] for r in found]),
            "labels": torch.from_numpy(_of(found, "category_id")),
        }
        targets = {
            "masks": torch.from_numpy(_masks(objects, size)).bool(),
            "labels": torch.from_numpy(_of(objects, "category_id")),
            "iscrowd": torch.from_numpy(_of(objects, "iscrowd")),
            "area": torch.from_numpy(_of(objects, "area")),
        }
        metric.update([detections], [targets])
    values = metric.compute()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
    return [float(values[name]) for name in names]


def torchmetrics_in_doubles(truth: Content, results: Records) -> Values:
    """Recall thresholds as pycocotools has them."""
    import numpy as np

    return torchmetrics(truth, results, rec_thresholds=np.linspace(0, 1, 101).tolist())


def ultralytics(truth: Content, results: Records) -> Values:
    """Its metrics on whole masks; its data sets have no crowds."""
    import numpy as np
    import torch
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import SegmentMetrics, mask_iou

    validator: Any = SimpleNamespace(iouv=torch.linspace(0.5, 0.95, 10))
    metrics = SegmentMetrics({c["id"]: c["name"] for c in truth["categories"]})
    for name, (size, objects, found) in enumerate(_images(truth, results)):
        objects = [annotation for annotation in objects if not annotation["iscrowd"]]
        found = sorted(found, key=lambda r: -r["score"])[:ULTRALYTICS_DETECTIONS]
        true, predicted = (
            torch.from_numpy(_masks(records, size)).flatten(1).float()
            for records in (objects, found)
        )
        classes, own = _of(objects, "category_id"), _of(found, "category_id")
        right = BaseValidator.match_predictions(
            validator, torch.from_numpy(own), torch.from_numpy(classes), mask_iou(true, predicted)
        ).numpy()
        metrics.update_stats(
            {
                "tp": right,
                "tp_m": right,
                "conf": np.array([r["score"] for r in found]),
                "pred_cls": own,
                "target_cls": classes,
                "target_img": np.unique(classes),
                "im_name": str(name),
            }
        )
    metrics.process()
    return [metrics.seg.map, metrics.seg.map50, metrics.seg.map75, None, None, None]


def ultralytics_in_steps(truth: Content, results: Records) -> Values:
    """Precision at a recall is the greatest from there on, as in COCO, and not interpolated."""
    import numpy as np
    from ultralytics.utils import metrics

    def ap(recall: Any, precision: Any) -> tuple[float, Any, Any]:
        greatest = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, np.linspace(0, 1, 101))
        return float(np.append(greatest, 0.0)[places].mean()), greatest, recall

    metrics.compute_ap = ap
    return ultralytics(truth, results)


def _images(truth: Content, results: Records) -> Iterator[tuple[tuple[int, int], Records, Records]]:
    """Size, annotations and detections of each image, by ascending id."""
    objects, found = defaultdict(list), defaultdict(list)
    for annotation in truth["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    for record in results:
        found[record["image_id"]].append(record)
    for image in sorted(truth["images"], key=lambda image: image["id"]):
        yield (image["height"], image["width"]), objects[image["id"]], found[image["id"]]


def _masks(records: Records, size: tuple[int, int]) -> Any:
    """N×H×W uint8."""
    import numpy as np
    from pycocotools import mask

    masks = np.zeros((len(records), *size), np.uint8)
    for row, record in zip(masks, records, strict=True):
        code = record["segmentation"]
        if isinstance(code, list):
            code = mask.merge(mask.frPyObjects(code, *size))
        elif isinstance(code["counts"], list):
            code = mask.frPyObjects(code, *size)
        row[:] = mask.decode(code)
    return masks


def _corners(records: Records) -> Any:
    """N×4, x1 y1 x2 y2."""
    import numpy as np

    boxes = np.array([record["bbox"] for record in records], float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _of(records: Records, key: str) -> Any:
    import numpy as np

    return np.array([record[key] for record in records], float if key == "area" else int)


if __name__ == "__main__":
    call, truth_file, results_file = sys.argv[1:]
    content, records = (json.loads(Path(f).read_text()) for f in (truth_file, results_file))
    values = globals()[call](content, records)
    print(json.dumps([None if v is None or v < 0 else float(v) for v in values]))  # noqa: T201
