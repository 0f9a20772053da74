from __future__ import annotations

import torch

from b2inst.training.determinism import deterministic


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
