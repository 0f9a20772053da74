"""Interruption of the training between two iterations."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self


class Interruption:
    """Context in which Ctrl-C and SIGTERM only set ``requested``.

    A second Ctrl-C interrupts at once; a second SIGTERM does not, since schedulers and torchrun
    both send one.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
