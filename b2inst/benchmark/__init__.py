"""Speed of models from image to full-size masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.benchmark.measure import Benchmark as Benchmark
    from b2inst.benchmark.measure import BenchmarkError as BenchmarkError
    from b2inst.benchmark.measure import Overhead as Overhead
    from b2inst.benchmark.measure import Speed as Speed
    from b2inst.benchmark.measure import benchmark as benchmark
    from b2inst.benchmark.measure import to_text as to_text
    from b2inst.benchmark.stages import Sample as Sample
    from b2inst.benchmark.stages import composed_samples as composed_samples
    from b2inst.benchmark.stages import index_samples as index_samples

__getattr__, __dir__ = lazy_names(__name__, __file__)
