"""Our models in detectron2: its trainer, predictor, evaluators and visualiser work unchanged.

Importing this registers the meta-architecture ``B2InstSegmenter``; see ``docs/detectron2.md``.
"""

from __future__ import annotations

from b2inst.integrations.detectron2.meta_arch import (
    B2InstSegmenter,
    add_b2inst_config,
    config_file,
    export,
)

__all__ = ["B2InstSegmenter", "add_b2inst_config", "config_file", "export"]
