"""Work in threads while its results are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def ahead(
    function: Callable[[Item], Value], items: Iterable[Item], *, workers: int, most: int
) -> Iterator[Value]:
    """Map a function over items in threads, at most ``most`` values ahead of the consumer.

    Values are in order, with errors in their places. Items are taken in the calling thread. Calls
    that have started are completed before the generator ends, also after an error or Ctrl-C; with
    one worker and ``most=1`` no call starts after one that failed. The function should not compute
    with tensors: PyTorch's threads belong to the caller.
    """
    pending: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            if len(pending) == most:
                yield pending.popleft().result()
            pending.append(pool.submit(function, item))
        while pending:
            yield pending.popleft().result()
