"""A benchmark as text."""

from __future__ import annotations

from b2inst.benchmark.results import Benchmark, Speed
from b2inst.benchmark.stages import STAGES


def to_text(result: Benchmark) -> str:
    """How it was measured, a column a model, and the overheads."""
    lines = [
        f"{result.images} images ({result.image_source}), one at a time; {result.device}, "
        f"{result.dtype}, {result.threads} CPU threads"
    ]
    if result.stand_in_detections is not None:
        lines.append(
            "models without trained weights: the head's threshold is set, and boxes of the "
            f"images' own objects put, so that {result.stand_in_detections} detections come out"
        )
    rows = [("", [speed.model for speed in result.speeds])]
    rows += [(name, [value(speed) for speed in result.speeds]) for name, value in _ROWS]
    rows += [
        (f"  {stage}", [_milliseconds(speed, stage) for speed in result.speeds])
        for stage in STAGES
        if any(stage in speed.stages_ms for speed in result.speeds)
    ]
    first = max(len(name) for name, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    for name, cells in rows:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name:<{first}}  {'  '.join(padded)}")
    for overhead in result.overheads:
        band = "too few images for an interval"
        if overhead.percent_ci95 is not None:
            low, high = overhead.percent_ci95
            band = f"95 % interval {low:+.1f} to {high:+.1f}"
        lines.append(
            f"{overhead.model} takes {overhead.percent:+.1f} % of time more than "
            f"{overhead.baseline} ({band}): {overhead.ratio:.3f} times its images/s"
        )
    return "\n".join(lines)


_ROWS = (
    ("images/s", lambda s: f"{s.fps:.2f}"),
    ("network input", lambda s: "×".join(map(str, s.network_size))),
    ("detections", lambda s: f"{s.detections:g}"),
    ("parameters (M)", lambda s: f"{s.parameters / 1e6:.1f}"),
    ("GFLOPs", lambda s: f"{s.gflops:.1f}"),
    ("peak memory (MB)", lambda s: f"{s.peak_memory_mb:.0f}"),
    ("p90 (ms)", lambda s: f"{s.p90_ms:.1f}"),
    ("median (ms)", lambda s: f"{s.median_ms:.1f}"),
)


def _milliseconds(speed: Speed, stage: str) -> str:
    return f"{speed.stages_ms[stage]:.1f}" if stage in speed.stages_ms else "–"
