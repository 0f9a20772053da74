"""What it costs to read and check a split of the size of COCO's train2017.

    B2INST_COCO_TINY=FOLDER .venv/bin/python experiments/data_cost.py

Repeats the images and annotations of a small part of COCO under new ids, the annotations thinned
out, until there are train2017's 118,287 images and 860,001 annotations. Measures, each in a
process of its own: reading the JSON alone, reading and checking the annotations as training does
(with the memory that it takes and leaves), and reading some of the images to their end. Writes
``results/data_cost.json``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import typer

from b2inst.data import CocoIndex, verify_images
from b2inst.experiments import Workspace
from b2inst.experiments.runs.store import write_json

IMAGES, ANNOTATIONS = 118_287, 860_001


def main(
    source: Path = typer.Option(..., envvar="B2INST_COCO_TINY"), images_read: int = 12_000
) -> None:
    """Measure, print and store."""
    # Not above: the measured processes would import PyTorch, too.
    from b2inst.experiments.runs.provenance import describe_machine

    with tempfile.TemporaryDirectory() as name:
        file, folder = _large(source, Path(name))
        alone = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1)
        result = {
            "images": IMAGES,
            "annotations": ANNOTATIONS,
            "annotation_file_mb": round(file.stat().st_size / 1e6),
            "json": alone.submit(_read_json, file).result(),
            "annotations_checked": alone.submit(_read_annotations, file, folder).result(),
            "images_checked": alone.submit(_read_images, file, folder, images_read).result(),
        }
    result["provenance"] = describe_machine()
    write_json(Workspace.here().results / "data_cost.json", result)
    typer.echo({key: value for key, value in result.items() if key != "provenance"})


def _read_json(file: Path) -> dict[str, Any]:
    return _timed(lambda: json.loads(file.read_bytes()))[1]


def _read_annotations(file: Path, folder: Path) -> dict[str, Any]:
    before = _memory_mb()
    index, cost = _timed(lambda: CocoIndex.load(file, folder))
    assert sum(map(len, index.annotations.values())) == ANNOTATIONS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return cost | {
        "memory_before_mb": round(before),
        "memory_peak_mb": round(peak),
        "memory_after_mb": round(_memory_mb()),
    }


def _read_images(file: Path, folder: Path, count: int) -> dict[str, Any]:
    index = CocoIndex.load(file, folder)
    some = index.subset(image.id for image in index.images[:count])
    _, cost = _timed(lambda: verify_images(some))
    return cost | {
        "images": count,
        "cores": os.cpu_count(),
        "images_per_second": round(count / cost["wall_seconds"]),
        "cpu_ms_per_image": round(1000 * cost["cpu_seconds"] / count, 2),
        "cpu_seconds_for_all": round(IMAGES * cost["cpu_seconds"] / count),
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, {"wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}


def _memory_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


def _large(source: Path, root: Path) -> tuple[Path, Path]:
    """A split of train2017's size from the splits of a small folder; images are hard links."""
    pool = []
    for split in ("train2017", "val2017"):
        content = json.loads((source / "annotations" / f"instances_{split}.json").read_text())
        of_image: dict[int, list[Any]] = {}
        for annotation in content["annotations"]:
            of_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in content["images"]:
            shutil.copy(source / split / image["file_name"], root / image["file_name"])
            pool.append((image, of_image.get(image["id"], [])))
    folder = root / "train2017"
    folder.mkdir()
    images: list[Any] = []
    annotations: list[Any] = []
    found = 0  # annotations of the images so far
    all_of_them = sum(len(of_it) for _, of_it in islice(cycle(pool), IMAGES))
    for number, (image, of_it) in enumerate(islice(cycle(pool), IMAGES), start=1):
        name = f"{number:012d}.jpg"
        (folder / name).hardlink_to(root / image["file_name"])
        images.append(image | {"id": number, "file_name": name})
        for annotation in of_it:
            found += 1
            if found * ANNOTATIONS // all_of_them > len(annotations):
                mine = {"id": len(annotations) + 1, "image_id": number}
                annotations.append(annotation | mine)
    file = root / "instances_train2017.json"
    file.write_text(json.dumps(content | {"images": images, "annotations": annotations}))
    return file, folder


if __name__ == "__main__":
    typer.run(main)
