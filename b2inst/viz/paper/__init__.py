"""The paper's figures, drawn from the models of its tables."""

from __future__ import annotations

from b2inst.viz.paper.figures import FIGURES
from b2inst.viz.paper.material import Material
from b2inst.viz.paper.saving import Saved, left_out, make_figures, save

__all__ = ["FIGURES", "Material", "Saved", "left_out", "make_figures", "save"]
