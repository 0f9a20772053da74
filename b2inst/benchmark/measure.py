"""Time models on the same images, in turn, in one process, and results of that."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from b2inst.benchmark.stages import (
    STAGES,
    DummyDetections,
    Sample,
    TimedModel,
    Timing,
    composed_samples,
)
from b2inst.inference import resolve_device
from b2inst.models import baseline_of, create_model
from b2inst.weights import load_model

_WARM_UP = 3  # images per model
_CLASSES = 80  # of COCO
_PARTS = ("boundary", "scoring", "refine", "oracle")  # options that a baseline does not have


class BenchmarkError(ValueError):
    """A benchmark that cannot be run; the message is one line with a remedy."""


@dataclass(frozen=True)
class Speed:
    """Speed of a model for one image at a time; times are medians in milliseconds."""

    model: str
    options: dict[str, Any]  #: options of the builder, for models with untrained weights
    network_size: tuple[int, int]  #: (height, width) of most images in the network
    detections: float  #: median number per image
    median_ms: float
    p90_ms: float
    stages_ms: dict[str, float]  #: by stage of ``STAGES``
    parameters: int
    gflops: float  #: of one image; a multiply-add counts as two operations
    peak_memory_mb: float  #: of tensors without weights, in 10⁶ bytes

    @property
    def fps(self) -> float:
        """Images per second, from the median."""
        return 1e3 / self.median_ms


@dataclass(frozen=True)
class Overhead:
    """Time that a model takes in addition to its baseline, image by image."""

    baseline: str
    model: str
    ratio: float  #: the baseline's time divided by the model's, median over the images
    percent: float  #: additional time, median over the images
    percent_ci95: tuple[float, float] | None  #: confidence interval; None below 6 images


@dataclass(frozen=True)
class Benchmark:
    """Speeds of several models, and the conditions of the measurement."""

    speeds: list[Speed]
    overheads: list[Overhead]
    images: int
    image_source: str
    stand_in_detections: int | None  #: per image, for models with untrained weights
    device: str
    dtype: str
    threads: int  #: CPU threads

    def speed(self, model: str) -> Speed:
        return next(speed for speed in self.speeds if speed.model == model)

    def to_json(self) -> dict[str, Any]:
        speeds = [asdict(speed) | {"fps": speed.fps} for speed in self.speeds]
        return asdict(self) | {"speeds": speeds}


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
    pairs: Sequence[tuple[str, str]] | None = None,
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
        pairs: Models and those of ``models`` that each is compared with (default: every B2Inst
            with its baselines).
        progress: Whether to show a progress bar.

    Raises:
        BenchmarkError: No model or option of this name, or a size that a model does not support.
        WeightsError: A weights file that cannot be read.
    """
    options, device = options or {}, torch.device(resolve_device(str(device)))
    samples = composed_samples(50) if samples is None else samples
    timed = {name: _prepared(name, options, size, detections) for name in models}
    operations = {}
    for name, one in timed.items():
        one.model.to(device).precision = precision
        one.model.optimised = False  # operations are counted as the modules define them
        operations[name] = gflops(partial(one.predict, samples[0]))
        one.model.optimised = True
        for sample in samples[:_WARM_UP]:
            one.predict(sample)
    timings = _time_in_turn(timed, samples, progress=progress)
    return Benchmark(
        speeds=[
            Speed(
                model=name,
                options={} if _trained(name) else dict(options),
                parameters=sum(p.numel() for p in one.model.parameters()),
                gflops=operations[name],
                peak_memory_mb=peak_memory_mb(partial(one.predict, samples[0]), device),
                **_summary(timings[name]),
            )
            for name, one in timed.items()
        ],
        overheads=_overheads(_baseline_pairs(timed) if pairs is None else pairs, timings),
        images=len(samples),
        image_source=image_source,
        stand_in_detections=None if all(map(_trained, models)) else detections,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=timed[models[0]].model.precision,
        threads=torch.get_num_threads(),
    )


def to_text(result: Benchmark) -> str:
    """Format conditions, a table with one column per model, and overheads."""
    import pandas as pd  # slow to import

    lines = [
        f"images: {result.images} ({result.image_source}), one at a time; {result.device}, "
        f"{result.dtype}, CPU threads: {result.threads}"
    ]
    if result.stand_in_detections is not None:
        options = next((f"; options: {one.options}" for one in result.speeds if one.options), "")
        lines.append(
            f"models without trained weights: {result.stand_in_detections} detections at the "
            f"image's own objects replace theirs{options}"
        )
    columns = {
        speed.model: {
            "images/s": f"{speed.fps:.2f}",
            "network input": "×".join(map(str, speed.network_size)),
            "detections": f"{speed.detections:g}",
            "parameters (M)": f"{speed.parameters / 1e6:.1f}",
            "GFLOPs": f"{speed.gflops:.1f}",
            "peak memory (MB)": f"{speed.peak_memory_mb:.0f}",
            "p90 (ms)": f"{speed.p90_ms:.1f}",
            "median (ms)": f"{speed.median_ms:.1f}",
            **{
                f"  {s}": f"{speed.stages_ms[s]:.1f}" if s in speed.stages_ms else None
                for s in STAGES
            },
        }
        for speed in result.speeds
    }
    lines.append(pd.DataFrame(columns).dropna(how="all").fillna("–").to_string())
    for overhead in result.overheads:
        interval = "too few images for an interval"
        if overhead.percent_ci95 is not None:
            interval = "95 % interval {:+.1f} to {:+.1f}".format(*overhead.percent_ci95)
        lines.append(
            f"{overhead.model} takes {abs(overhead.percent):.1f} % "
            f"{'less' if overhead.percent < 0 else 'more'} time than {overhead.baseline} "
            f"({interval}): {overhead.ratio:.3f} times its images/s"
        )
    return "\n".join(lines)


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
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints that it has no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return float(np.cumsum([0, *(change for _, change in changes)]).max()) / 1e6


def _trained(name: str) -> bool:
    return name.lower().endswith(".safetensors")


def _prepared(
    name: str, options: Mapping[str, Any], size: tuple[int, int] | None, detections: int
) -> TimedModel:
    """A model that fits images into ``size``; without trained weights, with dummy detections."""
    if name.lower().endswith((".onnx", ".xml")):
        raise BenchmarkError(f"{name}: exported models cannot be timed by stage; give weights")
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
    return TimedModel(model, dummies=None if _trained(name) else DummyDetections(model, detections))


def _time_in_turn(
    timed: Mapping[str, TimedModel], samples: Sequence[Sample], *, progress: bool
) -> dict[str, list[Timing]]:
    timings: dict[str, list[Timing]] = {name: [] for name in timed}
    names = [*timed]
    for i, sample in enumerate(tqdm(samples, desc="bench", unit="image", disable=not progress)):
        turn = i % len(names)
        for name in (*names[turn:], *names[:turn]):
            timings[name].append(timed[name].predict(sample))
    return timings


def _summary(timings: Sequence[Timing]) -> dict[str, Any]:
    """Fields of ``Speed`` that summarise the predictions of a model."""
    totals = [1e3 * timing.total for timing in timings]
    stages = {stage: 1e3 * median(t.seconds[stage] for t in timings) for stage in STAGES}
    return {
        "network_size": Counter(timing.network_size for timing in timings).most_common(1)[0][0],
        "detections": median(timing.detections for timing in timings),
        "median_ms": median(totals),
        "p90_ms": float(np.percentile(totals, 90)),
        "stages_ms": {s: ms for s, ms in stages.items() if any(t.seconds[s] for t in timings)},
    }


def _baseline_pairs(timed: Mapping[str, TimedModel]) -> list[tuple[str, str]]:
    """Each model and each of its baselines that is measured too and has no added parts."""
    families = {name: one.model.recipe["name"] for name, one in timed.items()}
    baselines = [
        name
        for name, one in timed.items()
        if families[name] == baseline_of(families[name])
        and all(one.model.recipe["options"].get(part) in (None, (), []) for part in _PARTS)
    ]
    return [
        (name, baseline)
        for name in timed
        for baseline in baselines
        if name not in baselines and families[baseline] == baseline_of(families[name])
    ]


def _overheads(
    pairs: Sequence[tuple[str, str]], timings: Mapping[str, Sequence[Timing]]
) -> list[Overhead]:
    from scipy.stats import quantile_test  # slow to import

    overheads = []
    for name, baseline in pairs:
        ours, theirs = (np.array([t.total for t in timings[n]]) for n in (name, baseline))
        percents = 100 * (ours / theirs - 1)
        middle = float(np.median(percents))
        low, high = quantile_test(percents, q=middle, p=0.5).confidence_interval(0.95)
        interval = None if np.isnan(low + high) else (float(low), float(high))
        overheads.append(Overhead(baseline, name, 1 / (1 + middle / 100), middle, interval))
    return overheads
