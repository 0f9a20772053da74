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
    """Map a function over items in threads, ahead of the consumer and in order.

    Items are taken in the calling thread. Calls that have started are completed before the
    generator ends, also after an error or Ctrl-C. With one worker and ``most=1`` no call starts
    after one that failed. Errors of the function are raised in place of the value.

    Args:
        function: Function that reads, encodes or writes. It should not compute with tensors, since
            PyTorch's own threads belong to the calling thread.
        items: Arguments of the calls.
        workers: Number of threads.
        most: Largest number of values that are started and not yet returned.
    """
    pending: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            if len(pending) == most:
                yield pending.popleft().result()
            pending.append(pool.submit(function, item))
        while pending:
            yield pending.popleft().result()
