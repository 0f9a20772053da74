"""The explorer: what is behind a mask, and what becomes of it when the parts are moved."""

from __future__ import annotations

from b2inst.viz.explore.composition import Composition, Contributions, compose, contributions
from b2inst.viz.explore.figures import contact_sheet, instance_rows, overview_rows
from b2inst.viz.explore.forming import Forming
from b2inst.viz.explore.forming_sheet import forming_sheet
from b2inst.viz.explore.models import (
    Candidate,
    companion,
    fullest,
    trained_models,
    weights_file,
)
from b2inst.viz.explore.opening import Opening, opening
from b2inst.viz.explore.ranking import (
    image_ap,
    paper_exponents,
    ranking_frame,
    ranking_score,
)
from b2inst.viz.explore.subjects import Gallery, Subject, Subjects, own_image, uploaded_image
from b2inst.viz.explore.tiles import png, sheet
from b2inst.viz.explore.view import Effect, Formed, Outcome, View, look
from b2inst.viz.explore.words import describe

__all__ = [
    "Candidate",
    "Composition",
    "Contributions",
    "Effect",
    "Formed",
    "Forming",
    "Gallery",
    "Opening",
    "Outcome",
    "Subject",
    "Subjects",
    "View",
    "companion",
    "compose",
    "contact_sheet",
    "contributions",
    "describe",
    "forming_sheet",
    "fullest",
    "image_ap",
    "instance_rows",
    "look",
    "opening",
    "overview_rows",
    "own_image",
    "paper_exponents",
    "png",
    "ranking_frame",
    "ranking_score",
    "sheet",
    "trained_models",
    "uploaded_image",
    "weights_file",
]
