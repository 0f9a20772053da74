from __future__ import annotations

import io
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.precision import MixedPrecision, Precision

from b2inst.training.checkpoints import (
    CheckpointError,
    deterministic,
    interruption,
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)

FACTS: dict[str, Any] = {"recipe": {"name": "tiny", "options": {}}, "schedule": {"iterations": 5}}
REST: dict[str, Any] = {
    "model": {"weight": torch.arange(500)},
    "optimizer": {},
    "scheduler": {},
    "random": [],
    "precision": {},
    "iteration": 3,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, FACTS | REST)
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


def test_a_changed_byte_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100, 103).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"unreadable checkpoint \(.* is damaged\)"):
        load_checkpoint(path, **FACTS)


def test_all_that_training_needs_is_there(path: Path) -> None:
    save_checkpoint(path, FACTS | {"iteration": 3})
    with pytest.raises(CheckpointError, match="it lacks model"):
        load_checkpoint(path, **FACTS)


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
    with pytest.raises(
        CheckpointError, match=r"No space left.*free disk space and rerun to resume"
    ):
        save_checkpoint(path, FACTS)
    assert load_checkpoint(path, **FACTS)["iteration"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def fabric(device: str, precision: Precision) -> Any:
    strategy = SimpleNamespace(precision=precision)
    return SimpleNamespace(device=torch.device(device), global_rank=0, strategy=strategy)


def test_random_states_and_gradient_scaler_are_restored(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu = {"state": torch.arange(16, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: on_gpu["state"].clone())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda s, device: on_gpu.update(state=s))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(1))
    gpu = fabric("cuda", MixedPrecision("16-mixed", "cuda", scaler))
    torch.manual_seed(3)
    save_checkpoint(path, FACTS | REST | random_state(gpu))
    expected = torch.rand(5)
    scaler.update(2.0)
    on_gpu["state"] = torch.zeros(16, dtype=torch.uint8)
    restore_random_state(gpu, load_checkpoint(path, **FACTS))
    assert torch.rand(5).equal(expected)
    assert on_gpu["state"].equal(torch.arange(16, dtype=torch.uint8))
    assert scaler.get_scale() == 1024


def test_a_random_state_moves_between_devices(path: Path) -> None:
    cpu = fabric("cpu", Precision())
    save_checkpoint(path, FACTS | REST | random_state(cpu))
    expected = torch.rand(5)
    cpu.global_rank = 3  # of more processes than have written it
    restore_random_state(cpu, load_checkpoint(path, **FACTS))
    assert torch.rand(5).equal(expected)


def test_indexing_adds_up_in_one_order_whatever_the_threads() -> None:
    """Gradients of many equal indices; with racing threads the last bits differ from run to run."""
    table = torch.randn(50, 64, requires_grad=True)
    index = torch.randint(50, (4000,))
    upstream = torch.randn(4000, 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with deterministic(torch.device("cpu")):
            first, *others = (
                torch.autograd.grad(table[index], table, upstream)[0] for _ in range(5)
            )
    finally:
        torch.set_num_threads(threads)
    assert all(first.equal(other) for other in others)


def test_only_within_and_only_on_a_cpu() -> None:
    with deterministic(torch.device("cuda")):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruption() as signals:
        assert signals == []
        signal.raise_signal(number)
        assert signals == [number]
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_stops_at_once_the_second_sigterm_does_not() -> None:
    with interruption():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_given_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="boom"), interruption():
        raise RuntimeError("boom")
    assert signal.getsignal(signal.SIGINT) is before
