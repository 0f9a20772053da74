"""Prediction files of other tools: reading them, and writing those of COCO's server."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, defaultdict
from pathlib import Path, PureWindowsPath
from typing import Any

from faster_coco_eval import COCO
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, verify_images
from b2inst.data.coco_reader import whole_number
from b2inst.data.files import replacing
from b2inst.data.segmentation import read_segmentation
from b2inst.data.wording import shortened
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth
from b2inst.evaluation.predictions import (
    NOT_EVALUATED,
    EvaluationError,
    Prediction,
    check_against,
    check_ids,
    check_record,
    iterate_predictions,
    read_predictions,
)

#: Suffixes of prediction files.
SUFFIXES = (".json", ".json.gz", ".jsonl.gz")

_WEIGHTS = (".safetensors", ".onnx", ".xml")

#: Fields COCO's server reads. Not the box: if given, APs, APm and APl would go by its area instead
#: of the mask's.
_SERVER_FIELDS = ("image_id", "category_id", "score", "segmentation")


def read_results(path: str | Path, annotations: Annotations) -> list[Prediction]:
    """Read the detections of a file and check them against their ground truth.

    It is a ``….jsonl.gz`` of ours, COCO results, or a COCO annotation file with scores, whose ids
    are its own, so that images and categories are identified by name (docs/evaluation.md). An
    EvaluationError names file and detection.
    """
    path, truth = Path(path), load_ground_truth(annotations)
    if path.name.lower().endswith(".jsonl.gz"):
        predictions = read_predictions(path)
        check_against(predictions, truth, f"{path}: ")
        return predictions
    if path.name.lower().endswith(_WEIGHTS):
        raise EvaluationError(
            f"{path}: has weights, not predictions; run `b2inst eval {path} --data … --out DIR`, "
            "and give DIR/predictions.jsonl.gz"
        )
    try:
        raw = path.read_bytes()
        content = json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    except FileNotFoundError:
        raise EvaluationError(f"{path}: no such prediction file; predict again") from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise EvaluationError(
            f"{path}: cannot be read as predictions ({error}); give a JSON list of detections"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        _replace_ids(content, truth, path)
        content = content["annotations"]
    if not isinstance(content, list):
        raise EvaluationError(
            f"{path}: has no predictions; give a JSON list of detections, or a COCO annotation "
            "file whose annotations have a score"
        )
    return [_prediction(r, f"{path}: prediction {i}", truth) for i, r in enumerate(content)]


def _replace_ids(content: dict[str, Any], truth: COCO, path: Path) -> None:
    """Replace the ids of a COCO file's images and categories by those of the ground truth."""
    for field, key, part in (
        ("image_id", "file_name", "images"),
        ("category_id", "name", "categories"),
    ):
        own, true_names = _names(content.get(part), key), _names(truth.dataset[part], key)
        names = {number: name for number, name in own.items() if isinstance(name, str)}
        ids = _ids_by_name(names, true_names)
        for i, record in enumerate(content["annotations"]):
            number = whole_number(record.get(field)) if isinstance(record, dict) else None
            if own and number is not None and number not in own:
                raise EvaluationError(
                    f"{path}: prediction {i}: {field} {number} is not among the file's own {part}; "
                    "add it there or correct the prediction"
                )
            if number in ids:
                record[field] = ids[number]
            elif number in names and (ids or field == "image_id"):  # else, classes have no names
                problem, base = NOT_EVALUATED.format(part), _base(names[number])
                alike, truly = (
                    shortened([name for name in some.values() if _base(name) == base])
                    for some in (names, true_names)
                )
                if truly:
                    problem = (
                        f"is ambiguous: the file has {alike}, and the {part} evaluated {truly}; "
                        "use the names of the annotation file, each once"
                    )
                raise EvaluationError(f"{path}: prediction {i}: {key} {names[number]!r} {problem}")


def _names(entries: Any, key: str) -> dict[int, Any]:
    """Names, or whatever they have instead, by id of the entries."""
    found = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    numbers = [(whole_number(entry.get("id")), entry.get(key)) for entry in found]
    return {number: name for number, name in numbers if number is not None}


def _base(name: str) -> str:
    return PureWindowsPath(name).name  # takes both / and \


def _ids_by_name(names: dict[int, str], true_names: dict[int, str]) -> dict[int, int]:
    """Map the ids of a file to those of the ground truth, by equal names, else without folders.

    Ambiguous names are only mapped to an equal id.
    """
    known: defaultdict[Any, set[int]] = defaultdict(set)
    for number, name in true_names.items():
        known[name].add(number)
        known["", _base(name)].add(number)
    found: dict[int, int] = {}
    for number, name in names.items():
        same = known.get(name) or known["", _base(name)]
        if number in same or len(same) == 1:
            found[number] = number if number in same else min(same)
    often = Counter(found.values())
    return {number: other for number, other in found.items() if often[other] == 1}


def _prediction(record: Any, where: str, truth: COCO) -> Prediction:
    """Bring a detection into our form: int ids, compressed run lengths and a box."""
    if not isinstance(record, dict):
        raise EvaluationError(f"{where}: {record!r:.40} is not a detection; give an object")
    found = dict(record)
    for name in ("image_id", "category_id"):
        found[name] = whole_number(record.get(name))
        if found[name] is None:
            raise EvaluationError(
                f"{where}: {name} {record.get(name)!r:.40} is not a whole number; give the id of "
                "the annotation file"
            )
    check_ids(found, where, truth)
    if record.get("segmentation") is None:
        raise EvaluationError(f"{where}: has no segmentation; give masks, boxes are not enough")
    image = truth.imgs[found["image_id"]]
    size = (image["height"], image["width"])
    try:
        code = read_segmentation(record["segmentation"], *size, lambda note: None)
    except ValueError as error:
        raise EvaluationError(f"{where} {error}; correct or remove this prediction") from None
    found["segmentation"] = {"size": list(size), "counts": code["counts"].decode()}
    found["bbox"] = record.get("bbox") or coco_mask.toBbox(code).tolist()
    check_record(found, where)
    return found


def image_index(image_info: Path, images: Path, *, skip_bad: bool = False) -> CocoIndex:
    """Load the images of a file such as ``image_info_test-dev2017.json``, without annotations.

    With ``skip_bad``, images that are missing or cannot be read are left out.

    Raises:
        DataError: A file cannot be read or is wrong.
        EvaluationError: No images are left.
    """
    index = CocoIndex.load(image_info, images, annotated=False, skip_bad=skip_bad)
    index = verify_images(index, skip_bad=True) if skip_bad else index
    if not index.images:
        raise EvaluationError(f"{image_info}: has no images to predict; give those of the split")
    return index


def submission_path(image_info: Path, out: Path, *, name: str) -> Path:
    """Return ``out/detections_<split>_<name>_results.json``, the name the server expects."""
    split = image_info.stem.removeprefix("image_info_").removeprefix("instances_")
    return out / f"detections_{split}_{name}_results.json"


def write_submission(predictions: Path, path: Path) -> Counter[int]:
    """Write a prediction file as COCO's server takes it, if zipped; count detections by image."""
    counts: Counter[int] = Counter()
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for i, record in enumerate(iterate_predictions(predictions)):
            file.write(",\n" if i else "[\n")
            json.dump({key: record[key] for key in _SERVER_FIELDS}, file, separators=(",", ":"))
            counts[record["image_id"]] += 1
        file.write("\n]\n" if counts else "[]\n")
    return counts
