"""The paper's figures, drawn from the models of its tables."""

from __future__ import annotations

from b2inst.viz.paper.figures import FIGURES
from b2inst.viz.paper.models import TrainedModels
from b2inst.viz.paper.saving import SavedFigure, missing_models, save, save_all

__all__ = ["FIGURES", "SavedFigure", "TrainedModels", "missing_models", "save", "save_all"]
