"""Initial weights of a part that do not depend on which other parts there are."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PartSeeds:
    """Seeds for the parts of one model, by name.

    Two models built from the same ``torch.manual_seed`` start from equal weights in every part
    they share, so that rows of a table differ in what they add and not in their luck. One number
    is drawn from the global generator, so that models built one after the other differ.
    """

    def __init__(self) -> None:
        self.base = int(torch.randint(2**62, (), device="cpu").item())

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Build a part in this context; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.base + zlib.crc32(part.encode()))
            yield
