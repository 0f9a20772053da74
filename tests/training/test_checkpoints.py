from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from b2inst.training.checkpoints import CheckpointError, load_checkpoint, save_checkpoint

FACTS: dict[str, Any] = {"recipe": {"name": "tiny", "options": {}}, "schedule": {"iterations": 5}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, FACTS | {"model": {"weight": torch.arange(500)}, "iteration": 3})
    return path


def test_there_and_back(path: Path) -> None:
    state = load_checkpoint(path, **FACTS)
    assert state["iteration"] == 3
    assert state["model"]["weight"].equal(torch.arange(500))
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("what", "name"), [("recipe", "another model"), ("schedule", "another schedule")]
)
def test_of_another_run(path: Path, what: str, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"checkpoint\.pt: checkpoint of {name}") as caught:
        load_checkpoint(path, **FACTS | {what: {"name": "other"}})
    assert len(str(caught.value).splitlines()) == 1


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint at all", bytes(1000), saved(torch.ones(2))]
)
def test_of_something_else(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: unreadable checkpoint.*delete it"):
        load_checkpoint(path, **FACTS)


@pytest.mark.parametrize("lost", [1, 100, 2000])
def test_cut_off(path: Path, lost: int) -> None:
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(CheckpointError, match="unreadable checkpoint"):
        load_checkpoint(path, **FACTS)


def test_code_in_a_pickle_is_not_run(path: Path) -> None:
    path.write_bytes(saved({"recipe": Path("x")}))
    with pytest.raises(CheckpointError, match="unreadable checkpoint"):
        load_checkpoint(path, **FACTS)


def test_a_full_disk_leaves_the_earlier_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(state: object, partial: Path) -> None:
        partial.write_bytes(b"half")
        raise RuntimeError("[enforce fail] PytorchStreamWriter failed writing file: No space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"No space left.*free disk space and run again"):
        save_checkpoint(path, FACTS)
    assert load_checkpoint(path, **FACTS)["iteration"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]
