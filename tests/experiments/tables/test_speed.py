"""What the rows of a table cost, and when it is measured again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from b2inst.benchmark import Benchmark, Overhead, Sample, Speed
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.store import Run, read_json
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables import speed as module
from b2inst.experiments.tables.speed import TableSpeed, table_speed

#: Milliseconds of the models, in the order in which they are asked for.
TIMES = (10.0, 12.5, 20.0)


class Stopwatch:
    """Stands in for ``benchmark``."""

    def __init__(self) -> None:
        self.models: list[tuple[str, ...]] = []
        self.samples: Sequence[Sample] = ()
        self.pairs: list[tuple[str, str]] = []
        self.fails = False

    def __call__(
        self,
        models: Sequence[str],
        *,
        samples: Sequence[Sample],
        image_source: str,
        device: str,
        pairs: Sequence[tuple[str, str]],
    ) -> Benchmark:
        self.models.append(tuple(models))
        self.samples = samples
        if self.fails:
            raise KeyboardInterrupt
        speeds = [
            Speed(
                model=name,
                options={},
                network_size=(48, 48),
                detections=7,
                median_ms=time,
                p90_ms=2 * time,
                stages_ms={"backbone": time},
                parameters=int(1e5 * time),
                gflops=time / 100,
                peak_memory_mb=1.0,
            )
            for name, time in zip(models, TIMES, strict=False)
        ]
        self.pairs = [*pairs]
        overheads = [
            Overhead(
                baseline=baseline,
                model=model,
                ratio=0.8,
                percent=25.0,
                percent_ci95=(0.0, 100.0),
            )
            for model, baseline in pairs
        ]
        return Benchmark(
            speeds=speeds,
            overheads=overheads,
            images=len(samples),
            image_source=image_source,
            stand_in_detections=None,
            device=device,
            dtype="float32",
            threads=1,
        )


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr(module, "benchmark", watch)
    return watch


@pytest.fixture
def runs(spec: RunSpec, workspace: Workspace, fake_run: Any) -> dict[str, Run]:
    """Two runs for three rows; each has weights of its own."""
    prepare(spec.data, workspace.data)
    made = {}
    for name, model in (("base", "blendmask-tiny"), ("more", "b2inst-blendmask-tiny")):
        made[name] = fake_run(spec.model_copy(update={"model": model}), workspace.runs, {})
        made[name].model_path.write_text(name)
    return {**made, "again": made["more"]}


Measure = Callable[..., TableSpeed]


@pytest.fixture
def bases() -> dict[str, str]:
    return {"more": "base", "again": "more"}


@pytest.fixture
def measure(
    runs: dict[str, Run], bases: dict[str, str], spec: RunSpec, workspace: Workspace
) -> Measure:
    def call(images: int | None = None) -> TableSpeed:
        return table_speed(
            runs,
            bases,
            workspace.results / "speed.json",
            data=spec.data,
            split="test",
            workspace=workspace,
            device="cpu",
            images=images,
        )

    return call


def test_rows_are_timed_together_on_images_of_the_split(
    measure: Measure, stopwatch: Stopwatch, runs: dict[str, Run], workspace: Workspace
) -> None:
    speed = measure()
    assert stopwatch.models == [(str(runs["base"].model_path), str(runs["more"].model_path))]
    assert [sample.image.shape for sample in stopwatch.samples] == [(48, 48, 3)] * 3  # all of test
    assert all(len(sample.boxes) for sample in stopwatch.samples)
    assert [s.model for s in speed.benchmark.speeds] == ["base", "more", "again"]
    pair = (str(runs["more"].model_path), str(runs["base"].model_path))
    assert stopwatch.pairs == [pair]  # "again" has the run of its base row
    assert speed.conditions()["images"] == 3
    assert speed.conditions()["image_source"] == "split test"
    assert speed.conditions()["seed"] == 0
    assert str(workspace.root) not in (workspace.results / "speed.json").read_text()


def test_cells_and_differences(measure: Measure, stopwatch: Stopwatch) -> None:
    speed = measure()
    cells = {name: cell.mean for name, cell in speed.costs("more").items()}
    assert cells == pytest.approx({"FPS": 80.0, "parameters": 1.25, "GFLOPs": 0.125})
    delta = speed.differences("more", "base")
    # 25 % more time: four images where there were five.
    assert delta["FPS"].mean == pytest.approx(-20.0)
    assert delta["FPS"].ci95 == pytest.approx((-50.0, 0.0))
    assert delta["FPS"].inside_noise
    assert delta["parameters"].mean == pytest.approx(0.25)
    assert delta["GFLOPs"].ci95 is None
    assert {d.base for d in delta.values()} == {"base"}
    # Rows that the benchmark has not compared have no difference of speed.
    assert speed.differences("again", "more")["FPS"].mean is None


def test_it_is_read_back_until_something_changes(
    measure: Measure,
    stopwatch: Stopwatch,
    runs: dict[str, Run],
    bases: dict[str, str],
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = measure()
    assert measure() == first
    assert len(stopwatch.models) == 1
    assert read_json(workspace.results / "speed.json")["benchmark"]["speeds"][0]["fps"] == 100.0

    runs["more"].model_path.write_text("other weights")
    changed = measure()
    assert len(stopwatch.models) == 2
    assert changed.measured["weights"]["base"] == first.measured["weights"]["base"]
    assert changed.measured["weights"]["more"] != first.measured["weights"]["more"]

    monkeypatch.setattr(code_version, "PREDICTION", 7)
    measure()
    assert len(stopwatch.models) == 3

    bases["again"] = "base"
    assert measure().differences("again", "base")["FPS"].mean == pytest.approx(-20.0)
    assert len(stopwatch.models) == 4

    measure(images=2)
    assert len(stopwatch.samples) == 2


def test_an_interrupt_leaves_what_was_there(
    measure: Measure, stopwatch: Stopwatch, runs: dict[str, Run], workspace: Workspace
) -> None:
    measure()
    before = (workspace.results / "speed.json").read_text()
    runs["base"].model_path.write_text("other weights")
    stopwatch.fails = True
    with pytest.raises(KeyboardInterrupt):
        measure()
    assert (workspace.results / "speed.json").read_text() == before
    stopwatch.fails = False
    measure()
    assert json.loads(before)["measured"] != measure().measured


def test_a_real_benchmark_of_a_trained_run(
    finished: tuple[RunSpec, Workspace, Run], workspace: Workspace
) -> None:
    spec, home, run = finished
    file = workspace.results / "speed.json"
    settings: dict[str, Any] = {"data": spec.data, "split": "test", "workspace": home}
    speed = table_speed({"row": run}, {}, file, device="cpu", **settings)
    cells = speed.costs("row")
    assert all(cell.mean is not None and cell.mean > 0 for cell in cells.values())
    assert cells["parameters"].mean == run.provenance()["parameters"] / 1e6
    assert table_speed({"row": run}, {}, file, device="cpu", **settings) == speed
