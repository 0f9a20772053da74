"""The paper's Figs. 1 and 4–9 on our models, and all bases of each.

Images are chosen by rule: a figure with images of largest gain also has some of largest loss or at
random, and its caption says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib import figure as mpl

from b2inst.data.images import as_array, read_image
from b2inst.models import Explanation
from b2inst.viz.choose import Choice, choose, image_gains, object_gains
from b2inst.viz.draw import Picture, draw_heat, draw_instances
from b2inst.viz.figure import picture_grid
from b2inst.viz.paper.models import TrainedModels
from b2inst.viz.qualitative import boundary_figure, closeup_figure, comparison_figure

_QUALITY = "√(mask IoU · boundary Dice)"
_BLENDMASK = ("blendmask", "b2inst-blendmask")
_YOLACT = ("yolact", "b2inst-yolact")
_CONDINST = ("condinst", "b2inst-condinst")


@dataclass(frozen=True)
class Drawing:
    """A figure that is not yet saved."""

    figure: mpl.Figure
    caption: str
    choices: Sequence[Choice]


@dataclass(frozen=True)
class Comparison:
    """Instances of baselines and of B2Inst on the same images."""

    title: str
    families: tuple[str, ...]  #: pairs of a baseline and B2Inst
    best: int = 0  #: images of largest gain
    worst: int = 0  #: images of largest loss
    at_random: int = 0
    boundary: bool = False  #: whether the boundary basis of the last model is shown
    ground_truth: bool = True
    across: int = 1

    def draw(self, models: TrainedModels) -> Drawing:
        """Draw it; RunError if a model is not trained."""
        own = [models[family] for family in self.families]
        gains = self._gains(models)
        counts = {"best": self.best, "worst": self.worst, "at_random": self.at_random}
        ids = [record.id for record in models.index.images]
        choices = choose(gains, ids, **counts)
        names = [model.name for model in own] + ["boundary basis"] * self.boundary
        caption = (
            f"{self.title}: {', '.join(names)}; images: {_rule(**counts)}. "
            f"Gain: difference in {_QUALITY} to the baseline, averaged over the objects that both "
            "find. Shown are instances with a class score of at least 0.4, and of several in one "
            "place the best-ranked."
        )
        figure = comparison_figure(
            models.index,
            choices,
            {model.name: model.predictions for model in own},
            explainers={own[-1].name: own[-1].model} if self.boundary else None,
            ground_truth=self.ground_truth,
            side=288 if self.boundary else 192,
            across=self.across,
            note=caption,
        )
        return Drawing(figure, caption, choices)

    def _gains(self, models: TrainedModels) -> dict[int, float]:
        """Gains by image, averaged over the pairs."""
        pairs = zip(self.families[::2], self.families[1::2], strict=True)
        gains = [
            image_gains(models.index, models[first].predictions, models[second].predictions)
            for first, second in pairs
        ]
        common = set.intersection(*map(set, gains))
        return {i: sum(of[i] for of in gains) / len(gains) for i in gains[0] if i in common}


class Boundaries:
    """Boundary bases beside their target (paper Fig. 8)."""

    families = ("b2inst-blendmask",)

    def draw(self, models: TrainedModels) -> Drawing:
        """Draw the boundaries of all B2Inst models that are trained."""
        others = [family for family in (_YOLACT[1], _CONDINST[1]) if not models.missing([family])]
        own = [models[family] for family in (*self.families, *others)]
        choices = choose({}, [record.id for record in models.index.images], at_random=4)
        caption = (
            "The paper's Fig. 8: boundary bases, as probabilities, beside the target of the first, "
            "on four images at random."
        )
        explainers = {model.name: model.model for model in own}
        across = 1 if others else 2
        figure = boundary_figure(models.index, choices, explainers, across=across, note=caption)
        return Drawing(figure, caption, choices)


class CloseUps:
    """Close-ups of objects (paper Fig. 9)."""

    families = _BLENDMASK

    def draw(self, models: TrainedModels) -> Drawing:
        """Draw it; RunError if a model is not trained."""
        own = [models[family] for family in self.families]
        gains = object_gains(models.index, *(model.predictions for model in own))
        counts = {"best": 3, "worst": 2, "at_random": 3}
        choices = choose(gains, (), **counts)
        caption = (
            "The paper's Fig. 9, as close-ups: masks of one object (orange), the true outline "
            f"(blue) and B2Inst's boundary basis; objects that both find: {_rule(**counts)}. Gain: "
            f"difference in {_QUALITY}."
        )
        predictions = {model.name: model.predictions for model in own}
        figure = closeup_figure(
            models.index, choices, predictions, own[-1].model, across=2, note=caption
        )
        return Drawing(figure, caption, choices)


@dataclass(frozen=True)
class Bases:
    """All bases of a baseline and of B2Inst, beside its boundary basis."""

    families: tuple[str, str]

    def draw(self, models: TrainedModels) -> Drawing:
        """Draw it; RunError if a model is not trained."""
        own = [models[family] for family in self.families]
        gains = image_gains(models.index, *(model.predictions for model in own))
        counts = {"best": 1, "worst": 0, "at_random": 1}
        paths = {record.id: record.path for record in models.index.images}
        choices = choose(gains, paths, **counts)
        rows, labels = [], []
        for choice in choices:
            for model in own:
                lines = _basis_rows(model.model.explain(as_array(read_image(paths[choice.id]))))
                rows += lines
                labels += [f"{model.name}\n{choice.label}", *[""] * (len(lines) - 1)]
        caption = (
            f"All bases of {' and '.join(model.name for model in own)}: the image, the boundary "
            "basis as a probability, and the other bases, each between its own extremes (red above "
            f"zero, blue below); images: {_rule(**counts)}. Gain: difference in {_QUALITY}."
        )
        columns = ["image", "boundary", "bases", *[""] * (max(map(len, rows)) - 3)]
        return Drawing(picture_grid(rows, columns, labels, note=caption), caption, choices)


def _basis_rows(
    explanation: Explanation, *, across: int = 8, side: int = 192
) -> list[list[Picture]]:
    """The image, the boundary and the bases, of which each row has at most ``across``."""
    image = draw_instances(
        explanation.image, explanation.instances, score_threshold=2, captions=False, side=side
    )
    (height, width), size, blank = explanation.content, image.shape[:2], np.full_like(image, 255)
    maps, logits = explanation.bases.maps[0], explanation.bases.boundary_logits
    start = [image, blank]
    if explanation.boundary is not None and logits is not None:
        start = [image, draw_heat(explanation.boundary, size)]
        if logits[0, 0].equal(maps[-1]):  # the boundary is the last basis
            maps = maps[:-1]
    maps = maps[:, :height, :width]
    scaled = maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-6) / 2 + 0.5
    heats = [draw_heat(values, size, colours="RdBu_r") for values in scaled]
    starts = range(0, len(heats), across)
    return [[*([blank] * 2 if i else start), *heats[i : i + across]] for i in starts]


def _rule(*, best: int, worst: int, at_random: int) -> str:
    parts = {"of largest gain": best, "of largest loss": worst, "at random": at_random}
    return ", ".join(f"{count} {rule}" for rule, count in parts.items() if count)


_pair = partial(Comparison, at_random=8, across=2)

#: By file name, in the paper's order.
FIGURES: dict[str, Comparison | Boundaries | CloseUps | Bases] = {
    "fig1": Comparison(
        "The paper's Fig. 1", _BLENDMASK, best=1, worst=1, boundary=True, ground_truth=False
    ),
    "fig4": Comparison(
        "The paper's Fig. 4", _BLENDMASK, best=2, worst=1, at_random=1, boundary=True
    ),
    "fig5": Comparison("The paper's Fig. 5", _YOLACT + _BLENDMASK, best=2, worst=1, at_random=2),
    "fig6": _pair("The paper's Fig. 6", _BLENDMASK),
    "fig7": _pair("The paper's Fig. 7", _YOLACT),
    "fig8": Boundaries(),
    "fig9": CloseUps(),
    "pairs_condinst": _pair("Not in the paper, after its Fig. 6", _CONDINST),
    "bases_blendmask": Bases(_BLENDMASK),
    "bases_yolact": Bases(_YOLACT),
    "bases_condinst": Bases(_CONDINST),
}
