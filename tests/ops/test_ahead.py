from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from b2inst.ops.ahead import ahead

LONG = 60  # seconds; what takes that long is a deadlock


def test_values_come_in_order_whichever_is_done_first() -> None:
    done = [threading.Event() for _ in range(6)]

    def after_the_next(i: int) -> int:
        if i % 2 == 0:
            assert done[i + 1].wait(LONG)
        done[i].set()
        return i

    assert list(ahead(after_the_next, range(6), workers=2, most=2)) == list(range(6))


def test_the_function_works_while_the_next_item_is_taken() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            assert i == 0 or begun[i - 1].wait(LONG)
            yield i

    def function(i: int) -> int:
        begun[i].set()
        return i

    assert list(ahead(function, items(), workers=1, most=1)) == [0, 1, 2]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 3), (4, 2)])
def test_never_more_than_most_are_begun_and_not_given_out(workers: int, most: int) -> None:
    given, alive, lock = 0, [], threading.Lock()
    begun = 0

    def function(i: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
            alive.append(begun - given)
        return i

    for i in ahead(function, range(40), workers=workers, most=most):
        given = i + 1
    assert given == begun == 40
    assert max(alive) <= most


def test_the_function_fails_in_the_place_of_its_value() -> None:
    begun = []

    def function(i: int) -> int:
        begun.append(i)
        if i == 2:
            raise OSError("image 2")
        return i

    values = ahead(function, range(9), workers=1, most=1)
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(OSError, match="image 2"):
        next(values)
    assert begun == [0, 1, 2], "one worker begins nothing after a failure"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_begun_is_finished_when_the_items_fail(error: type[BaseException]) -> None:
    failing, finished = threading.Event(), []

    def items() -> Iterator[int]:
        yield from range(3)
        failing.set()
        raise error

    def function(i: int) -> None:
        assert i < 2 or failing.wait(LONG)
        finished.append(i)

    with pytest.raises(error):
        list(ahead(function, items(), workers=1, most=1))
    assert finished == [0, 1, 2]


def test_what_was_begun_is_finished_when_nobody_wants_it() -> None:
    finished, leaving = [], threading.Event()

    def function(i: int) -> int:
        assert i == 0 or leaving.wait(LONG)
        finished.append(i)
        return i

    values = ahead(function, range(9), workers=1, most=2)
    assert next(values) == 0
    leaving.set()
    values.close()
    assert finished == [0, 1]


def test_items_are_taken_in_the_calling_thread() -> None:
    def items() -> Iterator[int]:
        for i in range(3):
            assert threading.current_thread() is caller
            yield i

    def function(i: int) -> bool:
        return threading.current_thread() is caller

    caller = threading.current_thread()
    assert not any(ahead(function, items(), workers=2, most=2))
