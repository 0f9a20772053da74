from __future__ import annotations

import multiprocessing as mp
from pathlib import Path

import torch
import torch.distributed as dist

from b2inst.ops.distributed import mean_over_devices


def test_alone_a_value_is_its_own_mean() -> None:
    assert mean_over_devices(torch.tensor(3.0)).item() == 3


def _process(rank: int, rendezvous: str, results: mp.Queue[float]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    value = torch.tensor(float(rank + 1))
    results.put(mean_over_devices(value).item())
    assert value.item() == rank + 1  # the value given is left as it is
    dist.destroy_process_group()


def test_mean_of_two_processes(tmp_path: Path) -> None:
    context = mp.get_context("fork")  # spawned ones would import torch anew
    results = context.Queue()
    arguments = [(rank, str(tmp_path / "rendezvous"), results) for rank in (0, 1)]
    processes = [context.Process(target=_process, args=a, daemon=True) for a in arguments]
    for process in processes:
        process.start()
    assert [results.get(timeout=600) for _ in processes] == [1.5, 1.5]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
