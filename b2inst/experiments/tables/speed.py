"""How fast the rows of a table are: timed together, in turn, and kept beside the table."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from b2inst.benchmark import Benchmark, benchmark, index_samples
from b2inst.experiments import Run, RunSpec, SplitName, Workspace
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import read_json, write_json
from b2inst.experiments.specs.data_spec import DataSpec, file_sha256
from b2inst.experiments.specs.yaml_spec import parse_spec
from b2inst.experiments.tables.table_result import Difference, Measured

#: Images that are timed by default; on a GPU each takes less, and more of them are needed.
_IMAGES = {"cpu": 50, "cuda": 200}


class TableSpeed(BaseModel):
    """The content of ``results/<profile>/<table>/speed.json``."""

    measured: dict[str, Any]  #: what was timed: each row's weights, the images, by which code
    benchmark: Benchmark  #: its models are called by the names of their rows
    provenance: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it; RunError if it is missing or damaged, SpecError if of another version."""
        return parse_spec(cls, read_json(path), source=path)

    def costs(self, row: str) -> dict[str, Measured]:
        """The cells of a row's columns of costs."""
        return {name: Measured.of([value]) for name, value in self._values(row).items()}

    def differences(self, row: str, base: str) -> dict[str, Difference]:
        """A row's costs minus its base row's; of FPS the percentage, image by image."""
        theirs = self._values(base)
        found = {
            name: Difference(mean=value - theirs[name], base=base)
            for name, value in self._values(row).items()
        }
        found["FPS"] = Difference(mean=None, base=base)
        for overhead in self.benchmark.overheads:
            if (overhead.model, overhead.baseline) == (row, base):
                times = overhead.percent_ci95  # more time is fewer images a second
                band = None if times is None else (_fewer(times[1]), _fewer(times[0]))
                mean = _fewer(overhead.percent)
                found["FPS"] = Difference(mean=mean, ci95=band, base=base, band95=band)
        return found

    def conditions(self) -> dict[str, Any]:
        """How it was measured, for the table's own provenance."""
        device = self.benchmark.device
        names = ("dtype", "threads", "images", "image_source")
        return {
            "device": self.provenance["cpu"] if device == "cpu" else device,
            **{name: getattr(self.benchmark, name) for name in names},
            **{key: self.provenance[key] for key in ("seed", "commit", "dirty", "measured")},
        }

    def _values(self, row: str) -> dict[str, float]:
        speed = self.benchmark.speed(row)
        return {"FPS": speed.fps, "parameters": speed.parameters / 1e6, "GFLOPs": speed.gflops}


def _fewer(percent: float) -> float:
    """Difference of images a second in percent, from a difference of time in percent."""
    return 100 * (1 / (1 + percent / 100) - 1)


def table_speed(
    rows: Mapping[str, Run],
    bases: Mapping[str, str],
    file: Path,
    *,
    data: DataSpec,
    split: SplitName,
    workspace: Workspace,
    device: str,
    images: int | None = None,
) -> TableSpeed:
    """Time the trained weights of all rows on the same images, unless nothing has changed.

    Args:
        rows: A finished run for each row.
        bases: The row that a row is compared with, if it has one.
        file: Where the measurement is kept (JSON).
        data: Source of the images, which are evenly spaced.
        split: The split of them.
        workspace: Where they are.
        device: "cpu" or "cuda".
        images: Largest number of images (default: 50, on a GPU 200).
    """
    kind, label = device.partition(":")[0], data.split_label(split)
    images = images or _IMAGES[kind]
    paths = {row: str(run.model_path) for row, run in rows.items()}
    measured = {
        "weights": {row: file_sha256(run.model_path) for row, run in rows.items()},
        "bases": dict(bases),
        "data": data.name,
        "split": label,
        "images": images,
        "code": code_version.PREDICTION,
        "device": kind,
    }
    if file.is_file() and read_json(file).get("measured") == measured:
        return TableSpeed.load(file)
    index = load_split(data, split, workspace.data)
    pairs = [
        (row, base)
        for row, base in bases.items()
        if {row, base} <= paths.keys() and paths[row] != paths[base]
    ]
    result = benchmark(
        list(dict.fromkeys(paths.values())),  # rows may share a run
        samples=index_samples(index, min(images, len(index))),
        image_source=f"split {label}",
        device=device,
        pairs=[(paths[row], paths[base]) for row, base in pairs],
    )
    overheads = [
        replace(overhead, model=row, baseline=base)
        for overhead, (row, base) in zip(result.overheads, pairs, strict=True)
    ]
    speeds = [replace(result.speed(path), model=row) for row, path in paths.items()]
    speed = TableSpeed(
        measured=measured,
        benchmark=replace(result, speeds=speeds, overheads=overheads),
        provenance={
            **describe_machine(),
            "measured": now(),
            "seed": next(iter(rows.values())).spec().seed,
            "runs": {row: run.hash for row, run in rows.items()},
        },
    )
    write_json(file, speed.model_dump(mode="json") | {"benchmark": speed.benchmark.to_json()})
    return speed


def published_speed(
    published: Path, file: Path, specs: Mapping[str, Sequence[RunSpec]]
) -> TableSpeed | None:
    """Copy a published measurement to ``file``, if there is one of the first run of each row."""
    found = TableSpeed.load(published) if published.is_file() else None
    if found is None or found.provenance["runs"] != {row: of[0].hash for row, of in specs.items()}:
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(published, file)
    return found
