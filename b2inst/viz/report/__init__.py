"""One static site of all results of a profile, each number with its origin."""

from __future__ import annotations

from b2inst.viz.report.site import make_report

__all__ = ["make_report"]
