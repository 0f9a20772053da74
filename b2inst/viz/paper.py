"""The paper's Figs. 1 and 4–9 on the trained models of its tables, and all bases of each.

Images are chosen by rule: a figure with images of largest gain also has some of largest loss or at
random, and its caption says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

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
from b2inst.viz.draw import Picture, draw_heat, draw_masks
from b2inst.viz.figure import picture_grid, save_print
from b2inst.viz.qualitative import closeup_figure, comparison_figure
from b2inst.weights import load_model

#: Families as the paper's figures call them.
NAMES = {
    f"{b2inst}{baseline}".lower(): f"{b2inst}{baseline}"
    for baseline in ("BlendMask", "YOLACT", "CondInst")
    for b2inst in ("", "B2Inst-")
}

_BASES_ACROSS = 8


@dataclass(frozen=True)
class TrainedModel:
    """A trained row of a table."""

    row: str  #: table and row
    run: Run
    predictions: ImagePredictions  #: what figures show of each image

    @cached_property
    def model(self) -> BasisSegmenter:
        return with_bases(load_model(self.run.model_path))


@dataclass
class TrainedModels:
    """The trained models of a profile, and the images that they are compared on."""

    plan: Profile  #: on scenes or identified data
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
        """Load a profile by name or path; its scenes are written when a model is found."""
        workspace = workspace or Workspace.here()
        plan = load_profile(profile, data=data, workspace=workspace)
        if isinstance(plan.data, CocoData):  # runs are named by the content of its files
            plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
        return cls(plan, workspace, seeds, profile)

    @cached_property
    def index(self) -> CocoIndex:
        """The images that figures choose from, of the split that tables report on."""
        data = prepare(self.plan.data, self.workspace.data)
        return candidates(load_split(data, data.report_split, self.workspace.data))

    @property
    def split(self) -> str:
        return self.plan.data.split_label(self.plan.data.report_split)

    @property
    def folder(self) -> Path:
        return self.workspace.results / self.plan.name / "figures"

    def __getitem__(self, family: str) -> TrainedModel:
        """Find a trained model by its family, such as "b2inst-yolact".

        Raises:
            RunError: None is trained; the message says what to run.
        """
        if family in self._found:
            return self._found[family]
        table = "table1" if family in _BLENDMASK else "table3"
        rows = load_table(table, workspace=self.workspace).rows
        # The last row of a family is the one with all parts of the paper's method.
        row = next(row for row in reversed(rows) if row.model == family)
        for seed in self.seeds:
            run = open_run(self.workspace.runs, self.plan.run_spec(family, row.options, seed))
            path = run.predictions_path(self.split)
            if run.model_path.is_file() and path.is_file():
                shown = visible(read_predictions(path), self.index)
                self._found[family] = TrainedModel(f"{table}, {row.name}", run, shown)
                return self._found[family]
        command = f"b2inst table {table} --profile {self.profile or self.plan.name}"
        if tuple(self.seeds) != (0,):
            command += f" --seeds {','.join(map(str, self.seeds))}"
        raise RunError(
            f"{NAMES[family]} is not trained in profile {self.plan.name}: run `{command}`"
        )


class PaperFigure(NamedTuple):
    """A figure of trained models, in pairs of a baseline and B2Inst, or of one model."""

    families: tuple[str, ...]  #: whose models it shows
    #: Number of images of largest gain ("best"), of largest loss ("worst") and "at_random".
    counts: Mapping[str, int]
    #: Called with the images, the choices, predictions and models by name, and a note.
    draw: Callable[..., Figure]
    explained: int = 0  #: number of its models, from the last, whose boundary or bases it shows
    note: str = ""  #: how to read it
    objects: bool = False  #: whether objects are chosen, not images


def _bases_figure(
    index: CocoIndex,
    choices: Sequence[Choice],
    _predictions: Mapping[str, ImagePredictions],
    models: Mapping[str, BasisSegmenter],
    **layout: Any,
) -> Figure:
    paths = {record.id: record.path for record in index.images}
    rows, labels = [], []
    for choice in choices:
        for name, model in models.items():
            lines = _basis_rows(model.explain(as_array(read_image(paths[choice.id]))))
            rows += lines
            labels += [f"{name}\n{choice.label}", *[""] * (len(lines) - 1)]
    columns = ["image", "boundary", "bases", *[""] * (len(rows[0]) - 3)]
    return picture_grid(rows, columns, labels, **layout)


def _basis_rows(explanation: Explanation, *, side: int = 192) -> list[list[Picture]]:
    """The image, the boundary and the bases, of which each row has at most eight."""
    nothing = explanation.instances.masks[:0]
    image = draw_masks(explanation.image, nothing, [], side=side)
    (height, width), size, blank = explanation.content, image.shape[:2], np.full_like(image, 255)
    maps, logits = explanation.bases.maps[0], explanation.bases.boundary_logits
    boundary = blank
    if explanation.boundary is not None and logits is not None:
        boundary = draw_heat(explanation.boundary, size)
        if logits[0, 0].equal(maps[-1]):  # the boundary is the last basis
            maps = maps[:-1]
    maps = maps[:, :height, :width]
    scaled = maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-6) / 2 + 0.5
    heats = [draw_heat(values, size, colours="RdBu_r") for values in scaled]
    across = min(len(heats), _BASES_ACROSS)
    heats += [blank] * (-len(heats) % across)
    rows = [[blank, blank, *heats[i : i + across]] for i in range(0, len(heats), across)]
    rows[0][:2] = [image, boundary]
    return rows


_BLENDMASK = ("blendmask", "b2inst-blendmask")
_YOLACT = ("yolact", "b2inst-yolact")
_CONDINST = ("condinst", "b2inst-condinst")
_FEW = {"best": 2, "worst": 1, "at_random": 1}
_RANDOM = {"at_random": 8}
_SMALL = partial(comparison_figure, side=192)
_LARGE = partial(comparison_figure, side=288)
_MANY = partial(_SMALL, across=2)

#: By file name, in the paper's order.
FIGURES: dict[str, PaperFigure] = {
    "fig1": PaperFigure(
        _BLENDMASK, {"best": 1, "worst": 1}, partial(_LARGE, ground_truth=False), explained=1
    ),
    "fig4": PaperFigure(_BLENDMASK, _FEW, _LARGE, explained=1),
    "fig5": PaperFigure(_YOLACT + _BLENDMASK, _FEW | {"at_random": 2}, _SMALL),
    "fig6": PaperFigure(_BLENDMASK, _RANDOM, _MANY),
    "fig7": PaperFigure(_YOLACT, _RANDOM, _MANY),
    "fig8": PaperFigure(
        _BLENDMASK[1:], {"at_random": 4}, partial(_LARGE, target=True), explained=1
    ),
    "fig9": PaperFigure(
        _BLENDMASK,
        {"best": 3, "worst": 2, "at_random": 3},
        partial(closeup_figure, across=2),
        explained=1,
        note="Close-ups: masks of one object (orange) and the true outline (blue). ",
        objects=True,
    ),
    "pairs_condinst": PaperFigure(_CONDINST, _RANDOM, _MANY),
    **{
        f"bases_{pair[0]}": PaperFigure(
            pair,
            {"best": 1, "at_random": 1},
            _bases_figure,
            explained=2,
            note="Each basis between its own extremes: red above zero, blue below. ",
        )
        for pair in (_BLENDMASK, _YOLACT, _CONDINST)
    },
}


def draw(name: str, models: TrainedModels) -> tuple[Figure, dict[str, Any]]:
    """Draw a figure of ``FIGURES``; returns it with its entry of ``figures.json``.

    Raises:
        RunError: A model that it needs is not trained.
    """
    figure = FIGURES[name]
    own = {NAMES[family]: models[family] for family in figure.families}
    index = models.index
    predictions = {name: model.predictions for name, model in own.items()}
    shown = [*predictions.values()]
    measure = object_gains if figure.objects else image_gains
    each = [measure(index, *pair) for pair in zip(shown[::2], shown[1::2], strict=False)] or [{}]
    common = [i for i in each[0] if all(i in of for of in each)]
    gains = {i: sum(of[i] for of in each) / len(each) for i in common}
    choices = choose(gains, () if figure.objects else index.annotations, **figure.counts)
    rules = {"best": "of largest gain", "worst": "of largest loss", "at_random": "at random"}
    chosen = ", ".join(f"{count} {rules[kind]}" for kind, count in figure.counts.items())
    title = f"The paper's Fig. {name[-1]}" if name.startswith("fig") else "Not in the paper"
    caption = (
        f"{title}: {', '.join(own)}. {figure.note}"
        f"{'Objects' if figure.objects else 'Images'}: {chosen}. "
        "Gain: difference to the baseline in √(mask IoU · boundary Dice), averaged over the "
        "objects that both find. Instances have a class score of at least 0.4, and of several in "
        "one place the best-ranked is shown."
    )
    record = {
        "name": name,
        "caption": caption,
        "split": models.split,
        "models": [{"name": n, "row": m.row, "runs": [m.run.hash]} for n, m in own.items()],
        "chosen": [asdict(choice) for choice in choices],
    }
    explained = [*own][len(own) - figure.explained :]
    explainers = {name: own[name].model for name in explained}
    return figure.draw(index, choices, predictions, explainers, note=caption), record


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
    try:
        figure, record = draw(name, models)
    except RunError as error:
        return SavedFigure(None, {"name": name, "missing": str(error)})
    return SavedFigure(save_print(figure, models.folder / f"{name}.png"), record)


def save_all(models: TrainedModels) -> list[SavedFigure]:
    """Save all figures that can be drawn, and what they show as ``figures.json``.

    Raises:
        RunError: There is no model for any of them; nothing is written.
    """
    missing = missing_models(models)
    if sum(map(len, missing.values())) == len(FIGURES):
        raise RunError(f"no figure can be drawn: {next(iter(missing))}")
    saved = [save(name, models) for name in tqdm(FIGURES, desc="figures", unit="figure")]
    records = {"figures": [one.record for one in saved], "provenance": describe_machine()}
    write_json(models.folder / "figures.json", records)
    return saved


def missing_models(models: TrainedModels) -> dict[str, list[str]]:
    """List the figures that cannot be drawn, by what to run first."""
    found: dict[str, list[str]] = {}
    for name, figure in FIGURES.items():
        try:
            for family in figure.families:
                models[family]
        except RunError as error:
            found.setdefault(str(error), []).append(name)
    return found
