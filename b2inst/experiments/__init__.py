"""Experiments: typed specs, a resumable run store, and tables that show where numbers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.experiments.runs.runner import run as run
    from b2inst.experiments.runs.store import Run as Run
    from b2inst.experiments.runs.store import RunStatus as RunStatus
    from b2inst.experiments.runs.store import open_run as open_run
    from b2inst.experiments.specs.data_spec import CocoData as CocoData
    from b2inst.experiments.specs.data_spec import ScenesData as ScenesData
    from b2inst.experiments.specs.data_spec import SplitName as SplitName
    from b2inst.experiments.specs.data_spec import coco_folder as coco_folder
    from b2inst.experiments.specs.errors import RunError as RunError
    from b2inst.experiments.specs.errors import SpecError as SpecError
    from b2inst.experiments.specs.profile import Profile as Profile
    from b2inst.experiments.specs.profile import load_profile as load_profile
    from b2inst.experiments.specs.resources import Resources as Resources
    from b2inst.experiments.specs.run_spec import RunSpec as RunSpec
    from b2inst.experiments.specs.table_spec import TableSpec as TableSpec
    from b2inst.experiments.specs.table_spec import load_table as load_table
    from b2inst.experiments.specs.workspace import Workspace as Workspace
    from b2inst.experiments.tables.notebook import execute as execute
    from b2inst.experiments.tables.rendering import to_markdown as to_markdown
    from b2inst.experiments.tables.rendering import to_text as to_text
    from b2inst.experiments.tables.reproduce import make_table as make_table
    from b2inst.experiments.tables.table_result import TableResult as TableResult

__getattr__, __dir__ = lazy_names(__name__, __file__)
