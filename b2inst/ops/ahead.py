"""Work that goes on in threads while its results are used."""

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
    """``map`` whose next values are computed in threads before they are asked for, in order.

    Items are taken in the calling thread, each while those before it are worked on. What has been
    begun is finished before the generator ends, however it ends: a function that writes loses
    nothing to an error in the items or to Ctrl-C. With one worker and ``most=1`` nothing is begun
    after a failure either.

    Args:
        function: what the threads call; those of PyTorch's own belong to the calling thread, so
            this should rather read, encode or write than compute with tensors.
        workers: threads.
        most: values that are begun and not yet given out, at any time.

    Raises:
        Exception: what the function has raised, in place of the value.
    """
    pending: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            if len(pending) == most:
                yield pending.popleft().result()
            pending.append(pool.submit(function, item))
        while pending:
            yield pending.popleft().result()
