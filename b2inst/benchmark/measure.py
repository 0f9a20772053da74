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

from b2inst.benchmark.dummy import DummyDetections
from b2inst.benchmark.results import Benchmark, Overhead, Speed
from b2inst.benchmark.samples import BenchmarkError, Sample, composed_samples
from b2inst.benchmark.stages import STAGES, StageClock
from b2inst.models import Segmenter, baseline_of, create_model
from b2inst.ops.masks import encode_rle
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
    clock: Callable[[], float] = time.perf_counter,
    progress: bool = True,
) -> Benchmark:
    """Measure latency by stage, size and cost of models, one image at a time.

    Each image passes through all models before the next one, in rotating order, so that
    disturbances of the machine affect all models alike. Latency is from the image array to the
    run-length codes of its full-size masks.

    Args:
        models: Model names, or paths of weights files.
        options: Options of the builder, for model names.
        size: (height, width) to fit images into (default: each model's own test size).
        samples: Images to predict (default: 50 composed of procedural scenes).
        image_source: Description of the images, for the record.
        detections: Number of detections per image of models with untrained weights.
        device: "cpu" or "cuda".
        precision: Precision of the network: "float32", "bfloat16" or "auto".
        compiled: Whether to use ``torch.compile`` for backbone and heads.
        clock: Clock in seconds. ``time.process_time`` is less affected by other processes.
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
    now = partial(_synchronised, clock) if device.type == "cuda" else clock
    timed = []
    for name in models:
        model = _prepared(name, options or {}, size, device, precision)
        dummies = None if _trained(name) else DummyDetections(model, detections)
        timed.append(TimedModel(name, model, now=now, dummies=dummies, compiled=compiled))
    operations = [model.gflops(samples[0]) for model in timed]
    for one in timed:
        for sample in samples[:_WARM_UP]:
            one.predict(sample)
        one.network_sizes.clear()
    for i, sample in enumerate(tqdm(samples, desc="bench", unit="image", disable=not progress)):
        turn = i % len(timed)
        for one in timed[turn:] + timed[:turn]:
            one.taken.append(one.predict(sample))
    return Benchmark(
        speeds=[
            _speed(one, gflops, options or {}, samples[0])
            for one, gflops in zip(timed, operations, strict=True)
        ],
        overheads=_overheads(timed),
        images=len(samples),
        image_source=image_source,
        stand_in_detections=None if all(map(_trained, models)) else detections,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=timed[0].model.precision,
        threads=torch.get_num_threads(),
    )


class TimedModel:
    """A model whose predictions are timed by stage.

    Args:
        name: Name of the model in the results.
        model: Model, which is modified.
        now: Clock in seconds, synchronised with the device.
        dummies: Detections of an untrained model.
        compiled: Whether to use ``torch.compile`` for backbone and heads.
    """

    def __init__(
        self,
        name: str,
        model: Segmenter,
        *,
        now: Callable[[], float],
        dummies: DummyDetections | None = None,
        compiled: bool = False,
    ) -> None:
        self.name, self.model, self.dummies, self.compiled = name, model, dummies, compiled
        self.taken: list[tuple[dict[str, float], int]] = []  #: outputs of ``predict`` that count
        self.network_sizes: list[tuple[int, ...]] = []
        if compiled:
            for dense in ("backbone", "instance_head", "basis_head"):
                if (part := getattr(model, dense, None)) is not None:
                    part.forward = torch.compile(part.forward)
        device = next(model.parameters()).device.type
        lower = compiled and model.precision == "bfloat16"
        self._autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=lower)
        self._clock = StageClock(model, now)
        model.backbone.register_forward_pre_hook(
            lambda _, inputs: self.network_sizes.append(tuple(inputs[0].shape[-2:]))
        )
        model.optimised = not compiled

    def predict(self, sample: Sample) -> tuple[dict[str, float], int]:
        """Predict an image up to run-length codes: seconds by stage, and number of detections."""
        if self.dummies is not None:
            self.dummies.sample = sample
        with self._clock.running(), self._autocast:
            (found,) = self.model.predict([sample.image])
            self._clock.lap("paste")
            encode_rle(found.masks)
        return self._clock.seconds, len(found)

    def gflops(self, sample: Sample) -> float:
        """Count the operations of the model as defined, without faster algorithms."""
        self.model.optimised = False
        count = gflops(lambda: self.predict(sample))
        self.model.optimised = not self.compiled
        return count


def _synchronised(clock: Callable[[], float]) -> float:
    torch.cuda.synchronize()
    return clock()


def _trained(name: str) -> bool:
    return name.endswith(".safetensors")


def _prepared(
    name: str,
    options: Mapping[str, Any],
    size: tuple[int, int] | None,
    device: torch.device,
    precision: str,
) -> Segmenter:
    if _trained(name):
        model = load_model(name)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same weights in the common parts of B2Inst and baseline
            try:
                model = create_model(name, num_classes=_CLASSES, **options).eval()
            except ValueError as error:
                raise BenchmarkError(f"{error}; weights files end with .safetensors") from None
    preprocessor: Any = model.preprocessor
    if size is not None and preprocessor.fixed_size is None:
        preprocessor.shorter, preprocessor.longer_max = min(size), max(size)
    elif size is not None:
        if size[0] != size[1]:
            raise BenchmarkError(f"{name}: looks at squares; give --size such as 550x550")
        preprocessor.fixed_size = size
    model.to(device).precision = precision
    return model


def gflops(work: Callable[[], object]) -> float:
    """Count the operations of convolutions and matrix products in 10⁹, two per multiply-add."""
    counter = FlopCounterMode(display=False)
    with counter:
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


def _speed(timed: TimedModel, gflops: float, options: Mapping[str, Any], sample: Sample) -> Speed:
    laps = [seconds for seconds, _ in timed.taken]
    totals = [1e3 * sum(seconds.values()) for seconds in laps]
    (((height, width), _),) = Counter(timed.network_sizes).most_common(1)
    stages = {stage: 1e3 * median(seconds[stage] for seconds in laps) for stage in STAGES}
    device = next(timed.model.parameters()).device
    return Speed(
        model=timed.name,
        options={} if _trained(timed.name) else dict(options),
        network_size=(height, width),
        detections=median(count for _, count in timed.taken),
        median_ms=median(totals),
        p90_ms=float(np.percentile(totals, 90)),
        stages_ms={s: ms for s, ms in stages.items() if any(seconds[s] for seconds in laps)},
        parameters=sum(p.numel() for p in timed.model.parameters()),
        gflops=gflops,
        peak_memory_mb=peak_memory_mb(lambda: timed.predict(sample), device),
    )


def _overheads(models: Sequence[TimedModel]) -> list[Overhead]:
    """Compare each model with its baseline, if that is measured too."""
    from scipy.stats import quantile_test  # slow to import

    totals = {m.name: np.array([sum(lap.values()) for lap, _ in m.taken]) for m in models}
    catalog_names = {m.name: str(m.model.recipe["name"]) for m in models}
    names = {catalog_name: name for name, catalog_name in catalog_names.items()}
    overheads = []
    for name, catalog_name in catalog_names.items():
        baseline = names.get(baseline_of(catalog_name))
        if baseline in {None, name}:
            continue
        percents = 100 * (totals[name] / totals[baseline] - 1)
        middle = float(np.median(percents))
        low, high = quantile_test(percents, q=middle, p=0.5).confidence_interval(0.95)
        interval = None if np.isnan(low + high) else (float(low), float(high))
        overheads.append(Overhead(baseline, name, 1 / (1 + middle / 100), middle, interval))
    return overheads
