from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b2inst.training import Schedule, logs
from b2inst.training.logs import Log, LoggerError, create_logger


@pytest.fixture
def logged(run: Callable[..., Any], dataset: Any, tmp_path: Path) -> Callable[[str], Any]:
    """A function: a logger's name to what the training's own log has, without time."""

    def call(name: str) -> list[dict[str, float]]:
        schedule = Schedule(iterations=2, batch_size=1, log_every=1, eval_every=2)
        run(tmp_path, dataset(), schedule=schedule, logger=name, evaluate=lambda _: {"AP": 7.0})
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    return call


def test_csv_has_what_the_log_has(logged: Callable[[str], Any], tmp_path: Path) -> None:
    lines = logged("csv")
    with (tmp_path / "csv/version_0/metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    expected = [{"step" if k == "iteration" else k: v for k, v in line.items()} for line in lines]
    assert rows == [pytest.approx(line) for line in expected]
    assert rows[1]["AP"] == 7


def test_tensorboard_has_what_the_log_has(logged: Callable[[str], Any], tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    lines = logged("tensorboard")
    found = events.EventAccumulator(str(tmp_path)).Reload()
    assert set(found.Tags()["scalars"]) == lines[1].keys() - {"iteration"}
    for line in lines:
        for name in line.keys() - {"iteration"}:
            values = {event.step: event.value for event in found.Scalars(name)}
            assert values[line["iteration"]] == pytest.approx(line[name])


def test_a_missing_package_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    create_logger("csv", tmp_path)  # needs none
    with pytest.raises(LoggerError, match=r"logger wandb: not installed; pip install wandb$"):
        create_logger("wandb", tmp_path)


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = b'{"iteration": 1, "lr": 0.1, "seconds": 2.0}\n'
    path.write_bytes(good + b"\xff\xfe\n" + b"[]\n" + good.replace(b"1,", b"2,") + b'{"iterat')
    log = Log(tmp_path, 1, None)
    log.write(2, 0.1, {"total": 1.0})
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2]
    assert lines[1]["seconds"] >= 2.0
