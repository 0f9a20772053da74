"""The explorer's widgets: a thin layer over the figures and tables of an inspection."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import ipywidgets as widgets
import pandas as pd

from b2inst.data import DataError
from b2inst.models import BasisSegmenter, with_bases
from b2inst.viz.explore import inspection, plots
from b2inst.viz.explore.sources import Checkpoint, Samples, baseline, own_image
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
        self.overview, self.bases, self.detail, self.steps = (_picture() for _ in range(4))
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
        for action, *controls in (
            (self._load, self.model, self.beside, self.image),
            (self._enter, self.dataset),
            (self._take_upload, self.upload),
            (self._choose_basis, self.basis),
            (self._scale, self.factor),
            (self._show, self.instance),
            (self._form, self.step),
            (self._rank, *self.exponents.values()),
        ):
            for control in controls:
                control.observe(lambda _, action=action: self._react(action), "value")
        self.off.on_click(lambda _: setattr(self.factor, "value", 0.0))
        self.reset.on_click(lambda _: self._react(self._reset))
        self.paper.on_click(lambda _: self._react(self._reset_exponents))
        self._react(lambda: self._load(instance))

    def _react(self, action: Callable[[], None]) -> None:
        """Answer the user, but not what the explorer itself sets meanwhile."""
        if self._updating:
            return
        self._updating, self.message.value = True, "<i>working …</i>"
        try:
            action()
            self.message.value = ""
        except DataError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"
        finally:
            self._updating = False

    def _take_upload(self) -> None:
        for file in self.upload.value[:1]:
            sample = own_image(file["name"], bytes(file["content"]))
            name = f"own: {sample.name}"
            self.datasets[name] = [sample]
            self.dataset.options, self.dataset.value = [*self.datasets], name
            self._enter()

    def _enter(self) -> None:
        self.image.value, self.image.max = 1, len(self.datasets[self.dataset.value])
        self._load()

    def _load(self, instance: int = 0) -> None:
        """Show the models the image, and fit the controls to what they found."""
        sample = self.datasets[self.dataset.value][self.image.value - 1]
        self.view, self.other = (
            inspection.inspect_image(_load(checkpoint), sample, name=checkpoint.short)
            for checkpoint in (self.models[self.model.value], self.models[self.beside.value])
        )
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
        self.bases.value = plots.all_bases(self.view)._repr_png_()
        self._choose_basis()
        self._show()

    def _choose_basis(self) -> None:
        self.factor.value = self.factors[self.basis.index]

    def _scale(self) -> None:
        self.factors[self.basis.index] = self.factor.value
        self._recompose()

    def _reset(self) -> None:
        self.factors, self.factor.value = self.view.as_trained, 1.0
        self._recompose()

    def _use_paper(self) -> None:
        paper = inspection.paper_exponents(self.view.instances)
        for name, control in self.exponents.items():
            control.disabled, control.value = name not in paper, paper.get(name, 0.0)

    def _reset_exponents(self) -> None:
        self._use_paper()
        self._rank()

    def _show(self) -> None:
        """Show another instance."""
        i = self.instance.value - 1 if len(self.view.instances) else None
        self.overview.value = plots.overview(self.view, i, self.other)._repr_png_()
        self.contributions.value = "Nothing is found in this image."
        if i is not None:
            text = "What each basis contributes to the logits as trained, and the mask without it"
            self.contributions.value = f"{text}:{_table(inspection.basis_frame(self.view, i))}"
        self._recompose()

    def _recompose(self) -> None:
        """Show the instance and the ranking with the chosen factors."""
        self.recomposed, self.detail.value = self.view.recomposed(self.factors), b""
        if len(self.view.instances):
            i = self.instance.value - 1
            figure = plots.instance_figure(self.view, i, self.factors, self.other)
            self.detail.value = figure._repr_png_()
        self._form()
        self._rank()

    def _form(self) -> None:
        """Draw the instance's mask after the chosen step."""
        view, i = self.view, self.instance.value - 1
        self.steps.value = b""
        if view.steps and len(view.instances):
            figure = plots.refinement_figure(view, i, self.factors, self.step.value)
            self.steps.value = figure._repr_png_()

    def _rank(self) -> None:
        """List the recomposed masks by the score with the chosen exponents, and rate the list."""
        exponents = {name: control.value for name, control in self.exponents.items()}
        frame = inspection.ranking_frame(self.recomposed, exponents).head(_LISTED)
        paper = inspection.paper_exponents(self.view.instances)
        before = inspection.image_ap(self.view, paper)
        now = inspection.image_ap(self.recomposed, exponents)
        text = "AP of this image: unknown without objects of the model's classes."
        if before and now:
            changes = (f"{k} {before[k]:.1f} as trained, {now[k]:.1f} now" for k in now)
            text = f"Of this image alone: {'; '.join(changes)}."
        self.ranking.value = f"{text}{_table(frame, self.instance.value)}"


@cache
def _load(checkpoint: Checkpoint) -> BasisSegmenter:
    return with_bases(load_model(checkpoint.path))


def _picture() -> widgets.Image:
    return widgets.Image(format="png", layout={"max_width": "100%"})


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
