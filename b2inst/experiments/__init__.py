"""Experiments: typed specs, a resumable run store, and tables that show where numbers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.experiments.data_spec import CocoData, ScenesData, SplitName, coco_folder
    from b2inst.experiments.errors import ExperimentError, RunError, SpecError
    from b2inst.experiments.exports import to_csv, to_latex, write_table
    from b2inst.experiments.notebook import execute
    from b2inst.experiments.profile import Profile, load_profile
    from b2inst.experiments.rendering import to_frame, to_markdown, to_text
    from b2inst.experiments.reproduce import make_table
    from b2inst.experiments.resources import Resources
    from b2inst.experiments.run_spec import Augmentation, RunSpec
    from b2inst.experiments.runner import StaleRunWarning, run
    from b2inst.experiments.store import Run, RunStatus, open_run
    from b2inst.experiments.table_result import TableResult
    from b2inst.experiments.table_spec import TableSpec, load_table
    from b2inst.experiments.workspace import Workspace

__all__ = [
    "Augmentation",
    "CocoData",
    "ExperimentError",
    "Profile",
    "Resources",
    "Run",
    "RunError",
    "RunSpec",
    "RunStatus",
    "ScenesData",
    "SpecError",
    "SplitName",
    "StaleRunWarning",
    "TableResult",
    "TableSpec",
    "Workspace",
    "coco_folder",
    "execute",
    "load_profile",
    "load_table",
    "make_table",
    "open_run",
    "run",
    "to_csv",
    "to_frame",
    "to_latex",
    "to_markdown",
    "to_text",
    "write_table",
]

__getattr__, __dir__ = lazy_names(__name__, __file__)
