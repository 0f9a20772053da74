"""Times models on the same images, in turn, in one process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from b2inst.benchmark.contender import Contender
from b2inst.benchmark.errors import BenchmarkError
from b2inst.benchmark.results import Benchmark, Overhead, Speed
from b2inst.benchmark.samples import Sample, composed_samples
from b2inst.benchmark.stages import STAGES
from b2inst.models import baseline_of

_WARM_UP = 3  # images, of every model


def benchmark(
    models: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    samples: Sequence[Sample] | None = None,
    image_source: str = "procedural scenes",
    detections: int = 100,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    compiled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    progress: bool = True,
) -> Benchmark:
    """Latency by stage, size and cost of models, an image at a time.

    Each image goes through all models before the next one comes, and another model begins each
    time, so that what disturbs the machine disturbs all alike. A time goes from the image as an
    array to the run-length codes of its full-size masks.

    Args:
        models: names of the catalog, or paths of weights files.
        options: of the builders of the named ones.
        size: (height, width) to fit images into, instead of each model's own test size.
        samples: images to predict (default: 50 composed of procedural scenes).
        image_source: what they are, for the record.
        detections: of an image, for models without trained weights (``StandIn``).
        device: "cpu" or "cuda".
        precision: of the network: "float32", "bfloat16", or "auto".
        compiled: backbone and heads by ``torch.compile``, which takes its time for new sizes.
        clock: seconds; ``time.process_time`` is less disturbed by a busy machine.

    Raises:
        BenchmarkError: no model, or one twice; see also ``Contender``.
    """
    if not models or len(set(models)) < len(models):
        raise BenchmarkError(f"models {list(models)}: name at least one, each once")
    device = torch.device(device)
    samples = composed_samples(50) if samples is None else samples
    now = _synchronised(clock) if device.type == "cuda" else clock
    contenders = [
        Contender(
            name,
            options=options or {},
            size=size,
            device=device,
            precision=precision,
            compiled=compiled,
            detections=detections,
            now=now,
            first=samples[0],
        )
        for name in models
    ]
    for contender in contenders:
        for sample in samples[:_WARM_UP]:
            contender.predict(sample)
        contender.network_sizes.clear()

    laps: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    found: dict[str, list[int]] = {name: [] for name in models}
    for i, sample in enumerate(tqdm(samples, desc="bench", unit="image", disable=not progress)):
        turn = i % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            seconds, count = contender.predict(sample)
            laps[contender.name].append(seconds)
            found[contender.name].append(count)

    return Benchmark(
        speeds=[_speed(c, laps[c.name], found[c.name], samples[0]) for c in contenders],
        overheads=_overheads(contenders, laps),
        images=len(samples),
        image_source=image_source,
        stand_in_detections=None if all(c.trained for c in contenders) else detections,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=contenders[0].precision,
        threads=torch.get_num_threads(),
    )


def _synchronised(clock: Callable[[], float]) -> Callable[[], float]:
    def now() -> float:
        torch.cuda.synchronize()
        return clock()

    return now


def _speed(
    contender: Contender, laps: list[dict[str, float]], found: list[int], sample: Sample
) -> Speed:
    totals = [1e3 * sum(seconds.values()) for seconds in laps]
    ((network_size, _),) = Counter(contender.network_sizes).most_common(1)
    return Speed(
        model=contender.name,
        options=contender.options,
        network_size=network_size,
        detections=median(found),
        median_ms=median(totals),
        p90_ms=float(np.percentile(totals, 90)),
        stages_ms={
            stage: 1e3 * median(seconds[stage] for seconds in laps)
            for stage in STAGES
            if any(seconds[stage] for seconds in laps)
        },
        parameters=contender.parameters,
        gflops=contender.gflops,
        peak_memory_mb=contender.peak_memory_mb(sample),
    )


def _overheads(
    contenders: Sequence[Contender], laps: Mapping[str, list[dict[str, float]]]
) -> list[Overhead]:
    """Of every model whose baseline takes part."""
    from scipy.stats import quantile_test  # takes a second to import

    totals = {name: np.array([sum(lap.values()) for lap in taken]) for name, taken in laps.items()}
    names = {c.catalog_name: c.name for c in contenders}
    overheads = []
    for contender in contenders:
        baseline = names.get(baseline_of(contender.catalog_name))
        if baseline in {None, contender.name}:
            continue
        percents = 100 * (totals[contender.name] / totals[baseline] - 1)
        middle = float(np.median(percents))
        low, high = quantile_test(percents, q=middle, p=0.5).confidence_interval(0.95)
        overheads.append(
            Overhead(
                baseline=baseline,
                model=contender.name,
                ratio=1 / (1 + middle / 100),
                percent=middle,
                percent_ci95=None if np.isnan(low + high) else (float(low), float(high)),
            )
        )
    return overheads
