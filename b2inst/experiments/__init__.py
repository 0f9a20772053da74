"""Experiments: typed specs, a resumable run store, and tables that show where numbers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.experiments.runs.runner import StaleRunWarning, run
    from b2inst.experiments.runs.store import Run, RunStatus, open_run
    from b2inst.experiments.specs.data_spec import CocoData, ScenesData, SplitName, coco_folder
    from b2inst.experiments.specs.errors import ExperimentError, RunError, SpecError
    from b2inst.experiments.specs.profile import Profile, load_profile
    from b2inst.experiments.specs.resources import Resources
    from b2inst.experiments.specs.run_spec import Augmentation, RunSpec
    from b2inst.experiments.specs.table_spec import TableSpec, load_table
    from b2inst.experiments.specs.workspace import Workspace
    from b2inst.experiments.tables.notebook import execute
    from b2inst.experiments.tables.rendering import (
        to_csv,
        to_frame,
        to_latex,
        to_markdown,
        to_text,
        write_table,
    )
    from b2inst.experiments.tables.reproduce import make_table
    from b2inst.experiments.tables.table_result import TableResult

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
