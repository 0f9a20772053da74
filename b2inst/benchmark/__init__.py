"""How fast models are, as a user meets them: an image in, full-size masks out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.benchmark.errors import BenchmarkError
    from b2inst.benchmark.measure import benchmark
    from b2inst.benchmark.report import to_text
    from b2inst.benchmark.results import Benchmark, Overhead, Speed
    from b2inst.benchmark.samples import Sample, coco_samples, composed_samples

__all__ = [
    "Benchmark",
    "BenchmarkError",
    "Overhead",
    "Sample",
    "Speed",
    "benchmark",
    "coco_samples",
    "composed_samples",
    "to_text",
]

__getattr__, __dir__ = lazy_names(__name__, __file__)
