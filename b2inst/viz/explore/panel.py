"""The explorer's widgets: a thin layer over the figures and tables of an inspection."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ipywidgets as widgets
import pandas as pd

from b2inst.data import DataError
from b2inst.models import BasisSegmenter, with_bases
from b2inst.viz.explore import inspection, plots
from b2inst.viz.explore.inspection import Inspection
from b2inst.viz.explore.sources import Checkpoint, Samples, baseline, own_image
from b2inst.viz.figure import DisplayedFigure
from b2inst.weights import load_model

_LISTED = 12  # instances in the table of the ranking
_LAYOUT = {"style": {"description_width": "110px"}, "layout": {"width": "480px"}}


class Explorer(widgets.VBox):
    """The explorer; every control can be used from the keyboard.

    Args:
        models: Models to choose from.
        datasets: Images to choose from, by name.
        model: Model that is shown first.
        image: Index of the image of the first data set that is shown first.
        instance: Index of its instance that is shown first.
    """

    def __init__(
        self,
        models: Sequence[Checkpoint],
        datasets: Mapping[str, Samples],
        *,
        model: Checkpoint,
        image: int = 0,
        instance: int = 0,
    ) -> None:
        self.models = {checkpoint.label: checkpoint for checkpoint in models}
        self.datasets, self.factors = dict(datasets), [1.0]
        self._updating = False
        first = next(iter(self.datasets))
        self.model = _choice("Model", [*self.models], model.label)
        self.beside = _choice("Beside it", [*self.models], baseline(models, model).label)
        self.dataset = _choice("Images", [*self.datasets], first)
        self.image = _slider("Image", 1, len(self.datasets[first]), image + 1)
        self.upload = widgets.FileUpload(accept="image/*", description="Own image")
        self.message = widgets.HTML(layout={"min_height": "28px"})
        self.instance = _slider("Instance", 1, instance + 1, instance + 1)
        self.basis = _choice("Basis", ["–"], "–")
        self.factor = _factor("times")
        self.off = widgets.Button(description="Off")
        self.reset = widgets.Button(description="All as trained")
        self.paper = widgets.Button(description="As in the paper")
        self.step = _slider("Step", 0, 1, 0)
        self.play = widgets.Play(min=0, max=1, value=0, interval=400)
        # Linked in the browser, so that steps follow each other however long a picture takes.
        self.link = widgets.jslink((self.play, "value"), (self.step, "value"))
        self.exponents = {
            name: _factor(f"{title} to the", disabled=True)
            for name, title in inspection.SCORES.items()
        }
        self.overview, self.bases, self.detail, self.steps = (
            widgets.Image(format="png", layout={"max_width": "100%"}) for _ in range(4)
        )
        self.contributions, self.ranking = widgets.HTML(), widgets.HTML()
        self.refinement = widgets.VBox(
            [_heading("The mask forms"), _row(self.step, self.play), self.steps]
        )
        super().__init__(
            [
                _row(self.model, self.beside),
                _row(self.dataset, self.image, self.upload),
                *(self.message, self.overview, self.bases),
                _heading("One instance, basis by basis"),
                _row(self.instance, self.basis),
                _row(self.factor, self.off, self.reset),
                *(self.detail, self.contributions, self.refinement),
                _heading("The ranking (Eq. 2)"),
                *(_row(*self.exponents.values(), self.paper), self.ranking),
            ]
        )
        self._inspect = lru_cache(maxsize=4)(self._inspected)
        self._choose_image()
        self._fit(instance)
        self._listen()
        self._react(None)

    def _listen(self) -> None:
        for control in (
            *(self.model, self.beside, self.dataset, self.image, self.upload, self.instance),
            *(self.basis, self.factor, self.step, *self.exponents.values()),
        ):
            control.observe(self._react, "value")
        self.off.on_click(lambda _: setattr(self.factor, "value", 0.0))
        self.reset.on_click(self._react)
        self.paper.on_click(self._react)

    def _react(self, event: Any) -> None:
        """Answer the user, but not what the explorer itself sets meanwhile."""
        if self._updating:
            return
        self._updating, self.message.value = True, "<i>working …</i>"
        try:
            self._update(getattr(event, "owner", event))
            self.message.value = ""
        except DataError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"
        finally:
            self._updating = False

    def _update(self, control: Any) -> None:
        """Show what a control has changed; what it has not is not computed again."""
        if control is self.upload:
            self._take_upload()
        before = self.view
        self._choose_image()
        if self.view is not before:
            self._fit()
        if control is self.factor:
            self.factors[self.basis.index] = self.factor.value
        elif control is self.reset:
            self.factors = self.view.as_trained
        elif control is self.paper:
            self._use_paper()
        self.factor.value = self.factors[self.basis.index]
        view, factors = self.view, tuple(self.factors)
        i = self.instance.value - 1 if len(view.instances) else None
        self.bases.value = _drawn(plots.all_bases, view)
        self.overview.value = _drawn(plots.overview, view, i, self.other)
        self.detail.value = self.steps.value = b""
        self.contributions.value = "Nothing is found in this image."
        if i is not None:
            text = "What each basis contributes to the logits as trained, and the mask without it"
            self.contributions.value = f"{text}:{_table(_basis_frame(view, i))}"
            self.detail.value = _drawn(plots.instance_figure, view, i, factors, self.other)
            if view.steps:
                step = self.step.value
                self.steps.value = _drawn(plots.refinement_figure, view, i, factors, step)
        exponents = {name: control.value for name, control in self.exponents.items()}
        frame = inspection.ranking_frame(view, exponents).head(_LISTED)
        self.ranking.value = _table(frame, self.instance.value)

    def _take_upload(self) -> None:
        for file in self.upload.value[:1]:
            with TemporaryDirectory() as folder:
                path = Path(folder) / Path(file["name"]).name
                path.write_bytes(file["content"])
                name = f"own: {path.name}"
                self.datasets[name] = [own_image(path)]
            self._inspect.cache_clear()
            self.dataset.options, self.dataset.value = [*self.datasets], name

    def _choose_image(self) -> None:
        self.image.max = len(self.datasets[self.dataset.value])
        place = self.dataset.value, self.image.value - 1
        self.view, self.other = (
            self._inspect(control.value, *place) for control in (self.model, self.beside)
        )

    def _inspected(self, model: str, dataset: str, i: int) -> Inspection:
        checkpoint = self.models[model]
        sample = self.datasets[dataset][i]
        return inspection.inspect_image(_load(checkpoint), sample, name=checkpoint.short)

    def _fit(self, instance: int = 0) -> None:
        """Fit the controls to what the model found in the image."""
        self.instance.max = max(len(self.view.instances), 1)
        self.instance.value = min(instance + 1, self.instance.max)
        self.step.max = self.play.max = max(self.view.steps, 1)
        self.refinement.layout.display = None if self.view.steps else "none"
        if self.basis.options != tuple(self.view.basis_names):
            self.basis.options = self.view.basis_names
            self.basis.value, self.factors = self.view.basis_names[-1], self.view.as_trained
        used = [name for name, control in self.exponents.items() if not control.disabled]
        if used != [*inspection.paper_exponents(self.view.instances)]:  # another model's scores
            self._use_paper()

    def _use_paper(self) -> None:
        paper = inspection.paper_exponents(self.view.instances)
        for name, control in self.exponents.items():
            control.disabled, control.value = name not in paper, paper.get(name, 0.0)


@lru_cache(maxsize=32)
def _drawn(draw: Callable[..., DisplayedFigure], *arguments: Any) -> bytes:
    return draw(*arguments)._repr_png_()


_basis_frame = lru_cache(maxsize=16)(inspection.basis_frame)


@cache
def _load(checkpoint: Checkpoint) -> BasisSegmenter:
    return with_bases(load_model(checkpoint.path))


def _choice(text: str, options: Sequence[str], value: str) -> widgets.Dropdown:
    return widgets.Dropdown(description=text, options=options, value=value, **_LAYOUT)


def _slider(text: str, low: int, high: int, value: int) -> widgets.IntSlider:
    return widgets.IntSlider(min(value, high), min=low, max=high, description=text, **_LAYOUT)


def _factor(text: str, **state: bool) -> widgets.FloatSlider:
    layout = {"style": {"description_width": "initial"}, "layout": {"width": "330px"}}
    return widgets.FloatSlider(1.0, min=0, max=2, step=0.1, description=text, **state, **layout)


def _row(*controls: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(controls, layout={"flex_flow": "row wrap"})


def _heading(text: str) -> widgets.HTML:
    return widgets.HTML(f"<h3 style='margin:14px 0 2px'>{text}</h3>")


def _table(frame: pd.DataFrame, strong: int | None = None) -> str:
    cells: Any = [{"selector": "th, td", "props": "padding: 2px 10px; text-align: right"}]
    styled = frame.style.set_uuid(str(frame.index.name)).set_table_styles(cells)
    if strong in frame.index:
        styled = styled.set_properties(subset=([strong], frame.columns), **{"font-weight": "bold"})
    return str(styled.format(precision=2, na_rep="–").to_html())
