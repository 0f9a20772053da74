"""Our models in detectron2: its trainer, predictor, evaluators and visualiser work unchanged.

Importing this registers the meta-architecture ``B2InstSegmenter``; see ``docs/detectron2.md``.
"""

from __future__ import annotations

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"b2inst.integrations.detectron2 needs detectron2, which cannot be imported ({error}): "
        "conda install -c conda-forge detectron2, or build it from its repository, "
        "github.com/facebookresearch/detectron2 (docs/detectron2.md says how)"
    ) from error

from b2inst.integrations.detectron2.meta_arch import (
    B2InstSegmenter,
    add_b2inst_config,
    config_file,
    export,
)

__all__ = ["B2InstSegmenter", "add_b2inst_config", "config_file", "export"]
