"""Time models on the same images, in turn, in one process."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from b2inst.benchmark.dummy import BenchmarkError, DummyDetections
from b2inst.benchmark.results import Benchmark, Overhead, Speed
from b2inst.benchmark.samples import Sample, composed_samples
from b2inst.benchmark.stages import STAGES, TimedModel, Timing
from b2inst.models import Segmenter, baseline_of, create_model
from b2inst.weights import load_model

_WARM_UP = 3  # images per model
_CLASSES = 80  # of COCO


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
    progress: bool = True,
) -> Benchmark:
    """Measure latency by stage, size and cost of models, one image at a time.

    Each image passes through all models before the next one, in rotating order. Latency is from
    the image array to the run-length codes of its full-size masks.

    Args:
        models: Model names, or paths of weights files.
        options: Options of the builder, for model names.
        size: (height, width) to fit images into (default: each model's own test size).
        samples: Images to predict (default: 50 composed of procedural scenes).
        image_source: Description of the images, for the record.
        detections: Number of detections per image of models with untrained weights.
        device: "cpu" or "cuda".
        precision: Precision of the network: "float32", "bfloat16" or "auto".
        compiled: Whether to use ``torch.compile`` for backbone and heads instead of the optimised
            network.
        progress: Whether to show a progress bar.

    Raises:
        BenchmarkError: No model or option of this name, a model given twice, or a size that a model
            does not support.
        WeightsError: A weights file that cannot be read.
    """
    if not models or len(set(models)) < len(models):
        raise BenchmarkError(f"models {list(models)}: name at least one, each once")
    device = torch.device(device)
    samples = composed_samples(50) if samples is None else samples
    timed = {}
    for name in models:
        model = _prepared(name, options or {}, size)
        model.to(device).precision = precision
        if compiled:
            _compile(model, device)
        dummies = None if _trained(name) else DummyDetections(model, detections)
        clock = _cuda_clock if device.type == "cuda" else time.perf_counter
        timed[name] = TimedModel(model, dummies=dummies, clock=clock)
    operations = {name: _gflops_as_defined(one, samples[0]) for name, one in timed.items()}
    for one in timed.values():
        for sample in samples[:_WARM_UP]:
            one.predict(sample)
    timings: dict[str, list[Timing]] = {name: [] for name in models}
    for i, sample in enumerate(tqdm(samples, desc="bench", unit="image", disable=not progress)):
        turn = i % len(models)
        for name in (*models[turn:], *models[:turn]):
            timings[name].append(timed[name].predict(sample))
    speeds = [
        Speed(
            model=name,
            options={} if _trained(name) else dict(options or {}),
            parameters=sum(p.numel() for p in one.model.parameters()),
            gflops=operations[name],
            peak_memory_mb=peak_memory_mb(partial(one.predict, samples[0]), device),
            **_summary(timings[name]),
        )
        for name, one in timed.items()
    ]
    return Benchmark(
        speeds=speeds,
        overheads=_overheads({n: str(m.model.recipe["name"]) for n, m in timed.items()}, timings),
        images=len(samples),
        image_source=image_source,
        stand_in_detections=None if all(map(_trained, models)) else detections,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=timed[models[0]].model.precision,
        threads=torch.get_num_threads(),
    )


def gflops(work: Callable[[], object]) -> float:
    """Count the operations of convolutions and matrix products in 10⁹, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def peak_memory_mb(work: Callable[[], object], device: torch.device) -> float:
    """Measure the peak memory of tensors allocated by ``work``, in 10⁶ bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return float(np.cumsum([0, *(change for _, change in changes)]).max()) / 1e6


def _cuda_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _trained(name: str) -> bool:
    return name.endswith(".safetensors")


def _prepared(name: str, options: Mapping[str, Any], size: tuple[int, int] | None) -> Segmenter:
    """A model that fits images into ``size``."""
    if _trained(name):
        model = load_model(name)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same weights in the common parts of B2Inst and baseline
            try:
                model = create_model(name, num_classes=_CLASSES, **options)
            except ValueError as error:
                raise BenchmarkError(f"{error}; weights files end with .safetensors") from None
    preprocessor: Any = model.preprocessor
    if size is not None and preprocessor.fixed_size is None:
        preprocessor.shorter, preprocessor.longer_max = min(size), max(size)
    elif size is not None:
        if size[0] != size[1]:
            raise BenchmarkError(f"{name}: resizes images to squares; give --size such as 550x550")
        preprocessor.fixed_size = size
    return model


def _gflops_as_defined(timed: TimedModel, sample: Sample) -> float:
    """Operations of the model as defined, without faster algorithms."""
    optimised, timed.model.optimised = timed.model.optimised, False
    count = gflops(partial(timed.predict, sample))
    timed.model.optimised = optimised
    return count


def _compile(model: Segmenter, device: torch.device) -> None:
    model.optimised = False
    for name in ("backbone", "instance_head", "basis_head"):
        if (part := getattr(model, name, None)) is not None:
            part.forward = torch.compile(part.forward)
    if model.precision == "bfloat16":
        model.predict = torch.autocast(device.type, dtype=torch.bfloat16)(model.predict)  # type: ignore[method-assign]


def _summary(timings: Sequence[Timing]) -> dict[str, Any]:
    """Fields of ``Speed`` that summarise the predictions of a model."""
    totals = [1e3 * timing.total for timing in timings]
    stages = {stage: 1e3 * median(t.seconds[stage] for t in timings) for stage in STAGES}
    (network_size, _), *_ = Counter(timing.network_size for timing in timings).most_common()
    return {
        "network_size": network_size,
        "detections": median(timing.detections for timing in timings),
        "median_ms": median(totals),
        "p90_ms": float(np.percentile(totals, 90)),
        "stages_ms": {s: ms for s, ms in stages.items() if any(t.seconds[s] for t in timings)},
    }


def _overheads(
    catalog_names: Mapping[str, str], timings: Mapping[str, Sequence[Timing]]
) -> list[Overhead]:
    """Compare each model with its baseline, if that is measured too."""
    from scipy.stats import quantile_test  # slow to import

    names = {catalog_name: name for name, catalog_name in catalog_names.items()}
    overheads = []
    for name, catalog_name in catalog_names.items():
        baseline = names.get(baseline_of(catalog_name))
        if baseline in {None, name}:
            continue
        ours, theirs = (np.array([t.total for t in timings[n]]) for n in (name, baseline))
        percents = 100 * (ours / theirs - 1)
        middle = float(np.median(percents))
        low, high = quantile_test(percents, q=middle, p=0.5).confidence_interval(0.95)
        interval = None if np.isnan(low + high) else (float(low), float(high))
        overheads.append(Overhead(baseline, name, 1 / (1 + middle / 100), middle, interval))
    return overheads
