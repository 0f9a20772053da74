"""How fast the rows of a table are: timed together, in turn, and kept beside the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from b2inst.benchmark import Benchmark, Speed, benchmark, index_samples
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import load_split
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import Run, read_json, write_json
from b2inst.experiments.specs.data_spec import DataSpec, SplitName, file_sha256
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.specs.yaml_spec import parse_spec
from b2inst.experiments.tables.table_result import Difference, Measured

#: Images that are timed, at most; on a GPU each takes less, and more of them are needed.
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
        values = _values(self.benchmark.speed(row))
        return {name: Measured.of([value]) for name, value in values.items()}

    def differences(self, row: str, base: str) -> dict[str, Difference]:
        """A row's costs minus its base row's; of FPS the percentage, image by image."""
        ours, theirs = (_values(self.benchmark.speed(name)) for name in (row, base))
        found = {
            name: Difference(mean=value - theirs[name], ci95=None, base=base)
            for name, value in ours.items()
        }
        found["FPS"] = Difference(mean=None, ci95=None, base=base)
        for overhead in self.benchmark.overheads:
            if (overhead.model, overhead.baseline) == (row, base):
                interval = overhead.percent_ci95  # of more time
                found["FPS"] = Difference(
                    mean=_fewer(overhead.percent),
                    ci95=interval and (_fewer(interval[1]), _fewer(interval[0])),
                    base=base,
                )
        return found

    def conditions(self) -> dict[str, Any]:
        """How it was measured, for the table's own provenance."""
        measured = {k: self.provenance[k] for k in ("seed", "commit", "dirty", "measured")}
        names = ("dtype", "threads", "images", "image_source")
        device = self.benchmark.device
        return {
            "device": self.provenance["cpu"] if device == "cpu" else device,
            **{name: getattr(self.benchmark, name) for name in names},
            **measured,
        }


def table_speed(
    rows: Mapping[str, Run],
    bases: Mapping[str, str],
    file: Path,
    *,
    data: DataSpec,
    split: SplitName,
    workspace: Workspace,
    device: str,
    progress: bool = True,
) -> TableSpeed:
    """Time the trained weights of all rows on the same images, or read back what was measured.

    It is measured again if weights, images, code or kind of device have changed.

    Args:
        rows: A finished run for each row.
        bases: The row that a row is compared with, if it has one.
        file: Where the measurement is kept (JSON).
        data: Source of the images: up to 50 (on a GPU 200), evenly spaced.
        split: The split of them.
        workspace: Where they are.
        device: "cpu" or "cuda".
        progress: Show a progress bar.
    """
    kind = device.partition(":")[0]
    label = data.split_label(split)
    measured = {
        "weights": {row: file_sha256(run.model_path) for row, run in rows.items()},
        "data": data.name,
        "split": label,
        "images": _IMAGES[kind],
        "code": code_version.PREDICTION,
        "device": kind,
    }
    if file.is_file() and read_json(file).get("measured") == measured:
        return TableSpeed.load(file)
    index = load_split(data, split, workspace.data)
    paths = {row: str(run.model_path) for row, run in rows.items()}
    result = benchmark(
        list(dict.fromkeys(paths.values())),  # rows may share a run
        samples=index_samples(index, min(_IMAGES[kind], len(index))),
        image_source=f"split {label}",
        device=device,
        progress=progress,
    )
    compared = {(o.model, o.baseline): o for o in result.overheads}
    pairs = {(row, base): (paths.get(row), paths.get(base)) for row, base in bases.items()}
    speed = TableSpeed(
        measured=measured,
        benchmark=replace(
            result,
            speeds=[replace(result.speed(path), model=row) for row, path in paths.items()],
            overheads=[
                replace(compared[pair], model=row, baseline=base)
                for (row, base), pair in pairs.items()
                if pair in compared
            ],
        ),
        provenance={
            **describe_machine(),
            "measured": now(),
            "seed": next(iter(rows.values())).spec().seed,
            "runs": {row: run.hash for row, run in rows.items()},
        },
    )
    content = speed.model_dump(mode="json") | {"benchmark": speed.benchmark.to_json()}
    write_json(file, content)
    return speed


def _values(speed: Speed) -> dict[str, float]:
    return {"FPS": speed.fps, "parameters": speed.parameters / 1e6, "GFLOPs": speed.gflops}


def _fewer(percent: float) -> float:
    """Difference of images a second in percent, from a difference of time in percent."""
    return 100 * (1 / (1 + percent / 100) - 1)
