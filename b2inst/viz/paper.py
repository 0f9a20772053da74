"""The paper's Figs. 1 and 4–9 on the trained models of its tables, and all bases of each.

Images are chosen by rule: a figure with images of largest gain also has some of largest loss or at
random, and its caption says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from b2inst.data import CocoIndex
from b2inst.data.images import as_array, read_image
from b2inst.evaluation import read_predictions
from b2inst.experiments import (
    CocoData,
    Profile,
    Run,
    RunError,
    Workspace,
    load_profile,
    load_table,
    open_run,
)
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json
from b2inst.models import BasisSegmenter, Explanation, with_bases
from b2inst.viz.choose import (
    Choice,
    ImagePredictions,
    candidates,
    choose,
    image_gains,
    object_gains,
    visible,
)
from b2inst.viz.draw import Picture, draw_heat, draw_instances
from b2inst.viz.figure import picture_grid, save_print
from b2inst.viz.qualitative import boundary_figure, closeup_figure, comparison_figure
from b2inst.weights import load_model

#: Families as the paper's figures call them.
NAMES = {
    "blendmask": "BlendMask",
    "b2inst-blendmask": "B2Inst-BlendMask",
    "yolact": "YOLACT",
    "b2inst-yolact": "B2Inst-YOLACT",
    "condinst": "CondInst",
    "b2inst-condinst": "B2Inst-CondInst",
}

# In each table, the last row of a family is the one with all parts of the paper's method.
_TABLES = ("table1", "table3")


@dataclass(frozen=True)
class TrainedModel:
    """A trained row of a table."""

    name: str
    row: str  #: table and row
    run: Run
    predictions: ImagePredictions  #: what figures show of each image

    @cached_property
    def model(self) -> BasisSegmenter:
        """The model with its weights."""
        return with_bases(load_model(self.run.model_path))


@dataclass
class TrainedModels:
    """The trained models of a profile, and the images that they are compared on."""

    plan: Profile  #: on prepared data
    workspace: Workspace  #: where the runs are
    seeds: Sequence[int] = (0,)  #: of the tables; the first that was run is shown
    profile: str | None = None  #: name or path of the profile, for messages (default: its name)
    _found: dict[str, TrainedModel] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def load(
        cls,
        profile: str = "tiny",
        *,
        seeds: Sequence[int] = (0,),
        data: CocoData | None = None,
        workspace: Workspace | None = None,
    ) -> Self:
        """Load a profile by name or path and write its scenes where missing."""
        workspace = workspace or Workspace.here()
        plan = load_profile(profile, data=data, workspace=workspace)
        plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
        return cls(plan, workspace, seeds, profile)

    @cached_property
    def index(self) -> CocoIndex:
        """The images that figures choose from, of the split that tables report on."""
        split = self.plan.data.report_split
        return candidates(load_split(self.plan.data, split, self.workspace.data))

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.plan.data.split_label(self.plan.data.report_split)

    def __getitem__(self, family: str) -> TrainedModel:
        """Find a trained model by its family, such as "b2inst-yolact".

        Raises:
            RunError: None is trained; the message says what to run.
        """
        if family not in self._found:
            self._found[family] = self._find(family)
        return self._found[family]

    def missing(self, families: Iterable[str]) -> str | None:
        """Say which of the families is not trained and what to run; None if all are."""
        try:
            for family in families:
                self[family]
        except RunError as error:
            return str(error)
        return None

    def _find(self, family: str) -> TrainedModel:
        tables = []
        for table in _TABLES:
            rows = load_table(table, workspace=self.workspace).rows
            row = next((row for row in reversed(rows) if row.model == family), None)
            if row is None:
                continue
            tables.append(table)
            for seed in self.seeds:
                spec = self.plan.run_spec(family, row.options, seed)
                run = open_run(self.workspace.runs, spec)
                path = run.predictions_path(self.split)
                if run.model_path.is_file() and path.is_file():
                    predictions = visible(read_predictions(path), self.index)
                    return TrainedModel(NAMES[family], f"{table}, {row.name}", run, predictions)
        command = f"b2inst table {tables[0]} --profile {self.profile or self.plan.name}"
        if tuple(self.seeds) != (0,):
            command += f" --seeds {','.join(map(str, self.seeds))}"
        raise RunError(
            f"{NAMES[family]} is not trained in profile {self.plan.name}: run `{command}`"
        )


_QUALITY = "√(mask IoU · boundary Dice)"
_BLENDMASK = ("blendmask", "b2inst-blendmask")
_YOLACT = ("yolact", "b2inst-yolact")
_CONDINST = ("condinst", "b2inst-condinst")

#: Number of images of largest gain ("best"), of largest loss ("worst") and "at_random".
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Drawing:
    """A figure that is not yet saved."""

    figure: Figure
    caption: str
    choices: Sequence[Choice]


@dataclass(frozen=True)
class PaperFigure:
    """A figure of trained models."""

    families: tuple[str, ...]  #: whose models it shows
    draw: Callable[[TrainedModels], Drawing]  #: raises RunError if one is not trained


def _comparison(
    title: str,
    families: tuple[str, ...],
    counts: Counts,
    *,
    boundary: bool = False,
    ground_truth: bool = True,
    across: int = 1,
) -> PaperFigure:
    """Instances of pairs of a baseline and B2Inst, and the boundary basis of the last model."""

    def draw(models: TrainedModels) -> Drawing:
        own = [models[family] for family in families]
        pairs = zip(own[::2], own[1::2], strict=True)
        each = [image_gains(models.index, a.predictions, b.predictions) for a, b in pairs]
        common = [i for i in each[0] if all(i in of for of in each)]
        gains = {i: sum(of[i] for of in each) / len(each) for i in common}
        choices = choose(gains, models.index.annotations, **counts)
        names = [model.name for model in own] + ["boundary basis"] * boundary
        caption = (
            f"{title}: {', '.join(names)}; images: {_rule(counts)}. "
            f"Gain: difference in {_QUALITY} to the baseline, averaged over the objects that both "
            "find. Shown are instances with a class score of at least 0.4, and of several in one "
            "place the best-ranked."
        )
        figure = comparison_figure(
            models.index,
            choices,
            {model.name: model.predictions for model in own},
            explainers={own[-1].name: own[-1].model} if boundary else None,
            ground_truth=ground_truth,
            side=288 if boundary else 192,
            across=across,
            note=caption,
        )
        return Drawing(figure, caption, choices)

    return PaperFigure(families, draw)


def _boundaries(models: TrainedModels) -> Drawing:
    """Boundary bases of all B2Inst models that are trained, beside their target (Fig. 8)."""
    others = [family for family in (_YOLACT[1], _CONDINST[1]) if not models.missing([family])]
    own = [models[family] for family in (_BLENDMASK[1], *others)]
    choices = choose({}, models.index.annotations, at_random=4)
    caption = (
        "The paper's Fig. 8: boundary bases, as probabilities, beside the target of the first, "
        "on four images at random."
    )
    explainers = {model.name: model.model for model in own}
    across = 1 if others else 2
    figure = boundary_figure(models.index, choices, explainers, across=across, note=caption)
    return Drawing(figure, caption, choices)


def _closeups(models: TrainedModels) -> Drawing:
    """Close-ups of objects (Fig. 9)."""
    own = [models[family] for family in _BLENDMASK]
    predictions = {model.name: model.predictions for model in own}
    counts = {"best": 3, "worst": 2, "at_random": 3}
    choices = choose(object_gains(models.index, *predictions.values()), (), **counts)
    caption = (
        "The paper's Fig. 9, as close-ups: masks of one object (orange), the true outline "
        f"(blue) and B2Inst's boundary basis; objects that both find: {_rule(counts)}. Gain: "
        f"difference in {_QUALITY}."
    )
    figure = closeup_figure(
        models.index, choices, predictions, own[-1].model, across=2, note=caption
    )
    return Drawing(figure, caption, choices)


def _bases(families: tuple[str, str]) -> PaperFigure:
    """All bases of a baseline and of B2Inst, beside its boundary basis."""

    def draw(models: TrainedModels) -> Drawing:
        own = [models[family] for family in families]
        gains = image_gains(models.index, *(model.predictions for model in own))
        counts = {"best": 1, "at_random": 1}
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
            f"zero, blue below); images: {_rule(counts)}. Gain: difference in {_QUALITY}."
        )
        columns = ["image", "boundary", "bases", *[""] * (max(map(len, rows)) - 3)]
        return Drawing(picture_grid(rows, columns, labels, note=caption), caption, choices)

    return PaperFigure(families, draw)


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


def _rule(counts: Counts) -> str:
    rules = {"best": "of largest gain", "worst": "of largest loss", "at_random": "at random"}
    return ", ".join(f"{count} {rules[name]}" for name, count in counts.items())


_FEW = {"best": 2, "worst": 1, "at_random": 1}
_RANDOM = {"at_random": 8}

#: By file name, in the paper's order.
FIGURES: dict[str, PaperFigure] = {
    "fig1": _comparison(
        *("The paper's Fig. 1", _BLENDMASK, {"best": 1, "worst": 1}),
        boundary=True,
        ground_truth=False,
    ),
    "fig4": _comparison("The paper's Fig. 4", _BLENDMASK, _FEW, boundary=True),
    "fig5": _comparison("The paper's Fig. 5", _YOLACT + _BLENDMASK, _FEW | {"at_random": 2}),
    "fig6": _comparison("The paper's Fig. 6", _BLENDMASK, _RANDOM, across=2),
    "fig7": _comparison("The paper's Fig. 7", _YOLACT, _RANDOM, across=2),
    "fig8": PaperFigure((_BLENDMASK[1],), _boundaries),
    "fig9": PaperFigure(_BLENDMASK, _closeups),
    "pairs_condinst": _comparison(
        "Not in the paper, after its Fig. 6", _CONDINST, _RANDOM, across=2
    ),
    "bases_blendmask": _bases(_BLENDMASK),
    "bases_yolact": _bases(_YOLACT),
    "bases_condinst": _bases(_CONDINST),
}


@dataclass(frozen=True)
class SavedFigure:
    """A saved figure, or the reason why there is none; notebooks display either."""

    path: Path | None  #: of the PNG; the PDF is beside it
    record: dict[str, Any]  #: entry of ``figures.json``

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any] | tuple[dict[str, Any], dict[str, Any]]:
        if self.path is None:
            return {"text/markdown": f"*Not drawn.* {self.record['missing']}"}
        return {"image/png": self.path.read_bytes()}, {"image/png": {"width": 900}}


def save(name: str, models: TrainedModels) -> SavedFigure:
    """Draw a figure of ``FIGURES`` and write it to ``results/<profile>/figures/``, as PDF and PNG.

    If a model that it needs is not trained, nothing is drawn and the record says what to run.
    """
    figure = FIGURES[name]
    if missing := models.missing(figure.families):
        return SavedFigure(None, {"name": name, "missing": missing})
    drawing = figure.draw(models)
    shown = [models[family] for family in figure.families]
    record = {
        "name": name,
        "caption": drawing.caption,
        "split": models.split,
        "models": [{"name": m.name, "row": m.row, "runs": [m.run.hash]} for m in shown],
        "chosen": [asdict(choice) for choice in drawing.choices],
    }
    return SavedFigure(save_print(drawing.figure, _folder(models) / f"{name}.png"), record)


def save_all(models: TrainedModels) -> list[SavedFigure]:
    """Save all figures that can be drawn, and what they show as ``figures.json``."""
    saved = [save(name, models) for name in tqdm(FIGURES, desc="figures", unit="figure")]
    records = {"figures": [one.record for one in saved], "provenance": describe_machine()}
    write_json(_folder(models) / "figures.json", records)
    return saved


def missing_models(models: TrainedModels) -> dict[str, list[str]]:
    """List the figures that cannot be drawn, by what to run first."""
    found: dict[str, list[str]] = {}
    for name, figure in FIGURES.items():
        if missing := models.missing(figure.families):
            found.setdefault(missing, []).append(name)
    return found


def _folder(models: TrainedModels) -> Path:
    return models.workspace.results / models.plan.name / "figures"
