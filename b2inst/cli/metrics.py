"""Metrics as text."""

from __future__ import annotations

from collections.abc import Mapping

_KINDS = {"": "mask", "boundary_": "boundary", "box_": "box"}
_GROUPS = {
    f"{group}_{kind}": f"{group} {_KINDS[kind]}"
    for group in ("touching", "isolated")
    for kind in ("", "boundary_")
}


def metrics_text(metrics: Mapping[str, float | None], *, groups: bool = False) -> str:
    """Mask, boundary and box AP, a line each; with ``groups`` those of touching objects, too."""
    kinds = _KINDS | _GROUPS if groups else _KINDS
    width = max(10, *(len(kind) + 1 for kind in kinds.values()))
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    lines = [" " * width + "".join(f"{name:>7}" for name in names)]
    for prefix, kind in kinds.items():
        values = [metrics.get(prefix + name) for name in names]
        cells = "".join(f"{'–' if v is None else f'{v:.1f}':>7}" for v in values)
        lines.append(f"{kind:<{width}}{cells}")
    return "\n".join(lines)
