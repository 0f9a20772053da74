"""Metrics as text."""

from __future__ import annotations

from collections.abc import Mapping


def metrics_text(metrics: Mapping[str, float | None]) -> str:
    """Mask, boundary and box AP, a line each."""
    kinds = {"": "mask", "boundary_": "boundary", "box_": "box"}
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    lines = ["          " + "".join(f"{name:>7}" for name in names)]
    for prefix, kind in kinds.items():
        values = [metrics.get(prefix + name) for name in names]
        cells = "".join(f"{'–' if v is None else f'{v:.1f}':>7}" for v in values)
        lines.append(f"{kind:<10}{cells}")
    return "\n".join(lines)
