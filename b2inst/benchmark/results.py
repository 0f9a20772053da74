"""Results of a benchmark."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from b2inst.benchmark.stages import STAGES


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
    """Time that a B2Inst takes in addition to its baseline, image by image."""

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
        """Return the speed of a model by its name."""
        return next(speed for speed in self.speeds if speed.model == model)

    def to_json(self) -> dict[str, Any]:
        """Return the content of a JSON file."""
        content = asdict(self)
        for entry, speed in zip(content["speeds"], self.speeds, strict=True):
            entry["fps"] = speed.fps
        return content


def to_text(result: Benchmark) -> str:
    """Format conditions, a table with one column per model, and overheads."""
    import pandas as pd  # slow to import

    lines = [
        f"images: {result.images} ({result.image_source}), one at a time; {result.device}, "
        f"{result.dtype}, CPU threads: {result.threads}"
    ]
    if result.stand_in_detections is not None:
        lines.append(
            f"models without trained weights: {result.stand_in_detections} detections at the "
            "image's own objects replace theirs"
        )
    table = pd.DataFrame({speed.model: _cells(speed) for speed in result.speeds})
    lines.append(table.dropna(how="all").fillna("–").to_string())
    for overhead in result.overheads:
        interval = "too few images for an interval"
        if overhead.percent_ci95 is not None:
            interval = "95 % interval {:+.1f} to {:+.1f}".format(*overhead.percent_ci95)
        lines.append(
            f"{overhead.model} takes {overhead.percent:+.1f} % more time than "
            f"{overhead.baseline} ({interval}): {overhead.ratio:.3f} times its images/s"
        )
    return "\n".join(lines)


def _cells(speed: Speed) -> dict[str, str | None]:
    times = {f"  {s}": speed.stages_ms.get(s) for s in STAGES}
    return {
        "images/s": f"{speed.fps:.2f}",
        "network input": "×".join(map(str, speed.network_size)),
        "detections": f"{speed.detections:g}",
        "parameters (M)": f"{speed.parameters / 1e6:.1f}",
        "GFLOPs": f"{speed.gflops:.1f}",
        "peak memory (MB)": f"{speed.peak_memory_mb:.0f}",
        "p90 (ms)": f"{speed.p90_ms:.1f}",
        "median (ms)": f"{speed.median_ms:.1f}",
        **{stage: None if ms is None else f"{ms:.1f}" for stage, ms in times.items()},
    }
