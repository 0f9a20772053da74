"""The explorer's widgets: a thin layer that calls the package's functions and shows their PNGs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import ipywidgets as widgets

from b2inst.data import DataError
from b2inst.models import BasisSegmenter, with_bases
from b2inst.viz.explore.controls import (
    WRAP,
    decimal,
    dropdown,
    heading,
    heading_text,
    paragraphs,
    picture,
    whole,
)
from b2inst.viz.explore.figures import instance_rows, overview_rows
from b2inst.viz.explore.forming_controls import FormingControls
from b2inst.viz.explore.models import Candidate, companion
from b2inst.viz.explore.opening import Opening
from b2inst.viz.explore.ranking import image_ap, paper_exponents, ranking_frame
from b2inst.viz.explore.subjects import Subject, Subjects, uploaded_image
from b2inst.viz.explore.tiles import Row, png, sheet
from b2inst.viz.explore.view import look
from b2inst.viz.explore.words import describe, describe_change
from b2inst.weights import load_model

_LISTED = 12  # instances in the table of the ranking


class Panel:
    """The explorer as one widget, ``box``; every control can be used from the keyboard.

    Args:
        models: to choose from.
        galleries: images to choose from, by name.
        model: shown first.
        opening: image of the first gallery and instance to begin with.
    """

    def __init__(
        self,
        models: Sequence[Candidate],
        galleries: Mapping[str, Subjects],
        *,
        model: Candidate,
        opening: Opening,
    ) -> None:
        self.models = {candidate.label: candidate for candidate in models}
        self.galleries = galleries
        self._fitted: Candidate | None = None
        self._quiet = False
        self._make_controls(model, opening)
        self._look(opening.instance)

    def _make_controls(self, model: Candidate, opening: Opening) -> None:
        labels, galleries = list(self.models), list(self.galleries)
        beside = companion(list(self.models.values()), model).label
        self.model = dropdown("Model", labels, model.label)
        self.beside = dropdown("Beside it", labels, beside)
        self.gallery = dropdown("Images", galleries, galleries[0])
        count = len(self.galleries[galleries[0]])
        self.image = whole("Image", 1, count, min(opening.image + 1, count))
        self.upload = widgets.FileUpload(accept="image/*", description="Own image")
        self.instance = whole("Instance", 1, 1, 1)
        self.basis = dropdown("Basis", ["–"], "–")
        self.factor = decimal("times", 1.0)
        self.off = widgets.Button(description="Off")
        self.reset = widgets.Button(description="All as trained")
        self.exponents = {
            name: decimal(f"{title} to the", 1.0)
            for name, title in (("class", "S_class"), ("iou", "S_IoU"), ("boundary", "S_boundary"))
        }
        self.paper = widgets.Button(description="All as trained")
        self.overview, self.bases, self.detail = picture(), picture(), picture()
        self.forming = FormingControls()
        self.message = widgets.HTML(layout={"min_height": "28px"})
        self.words, self.heading, self.ap, self.table = (widgets.HTML() for _ in range(4))
        for control in (self.model, self.beside, self.image):
            control.observe(lambda _: self._react(self._look), "value")
        self.gallery.observe(lambda _: self._react(self._enter_gallery), "value")
        self.upload.observe(lambda _: self._react(self._take_upload), "value")
        self.instance.observe(lambda _: self._react(self._choose_instance), "value")
        self.basis.observe(lambda _: self._react(self._choose_basis), "value")
        self.factor.observe(lambda _: self._react(self._scale_basis), "value")
        self.off.on_click(lambda _: setattr(self.factor, "value", 0.0))
        self.reset.on_click(lambda _: self._react(self._reset_bases))
        for control in self.exponents.values():
            control.observe(lambda _: self._react(self._draw_ranking), "value")
        self.paper.on_click(lambda _: self._react(self._reset_exponents))

    @property
    def box(self) -> widgets.VBox:
        """What to display."""
        return widgets.VBox(
            [
                widgets.HBox([self.model, self.beside], layout=WRAP),
                widgets.HBox([self.gallery, self.image, self.upload], layout=WRAP),
                self.message,
                self.overview,
                self.bases,
                heading("One instance, basis by basis"),
                widgets.HBox([self.instance, self.basis], layout=WRAP),
                widgets.HBox([self.factor, self.off, self.reset], layout=WRAP),
                self.words,
                self.detail,
                self.forming.box,
                self.heading,
                widgets.HBox([*self.exponents.values(), self.paper], layout=WRAP),
                self.ap,
                self.table,
            ]
        )

    def _react(self, action: Any) -> None:
        """Answer a user's hand, but not what the panel itself sets meanwhile."""
        if self._quiet:
            return
        self.message.value = "<i>at work …</i>"
        try:
            action()
            self.message.value = ""
        except DataError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    @property
    def _instance(self) -> int:
        return int(self.instance.value) - 1

    @property
    def _subject(self) -> Subject:
        return self.galleries[self.gallery.value][self.image.value - 1]

    def _enter_gallery(self) -> None:
        with self._quietly():
            self.image.value = 1
            self.image.max = len(self.galleries[self.gallery.value])
        self._look()

    def _take_upload(self) -> None:
        if self.upload.value:
            file = self.upload.value[0]
            own = uploaded_image(file["name"], bytes(file["content"]))
            name = f"own: {own.name}"
            self.galleries = {**self.galleries, name: [own]}
            with self._quietly():
                self.gallery.options = list(self.galleries)
                self.gallery.value = name
            self._enter_gallery()

    def _look(self, instance: int = 0) -> None:
        """Show the models the image, and begin at an instance."""
        chosen, other = self.models[self.model.value], self.models[self.beside.value]
        subject = self._subject
        self.view = look(_loaded(chosen), subject, name=chosen.short)
        self.other = look(_loaded(other), subject, name=other.short)
        with self._quietly():
            self.instance.max = max(len(self.view.explanation.instances), 1)
            self.instance.value = min(instance + 1, self.instance.max)
            if chosen is not self._fitted:
                self._fit(chosen)
        paper = paper_exponents(self.view.explanation.instances)
        self.ap_as_trained = image_ap(self.view, self.view.trained, paper)
        _, *bases = overview_rows(self.view)
        self.bases.value = png(sheet(bases))
        self._recompose()
        self._choose_instance()

    def _fit(self, model: Candidate) -> None:
        """Fit the controls to another model: its bases, the scores that it predicts."""
        self._fitted = model
        names = self.view.basis_names
        self.factors = [1.0] * len(names)
        self.basis.options = names
        self.basis.value = names[-1]
        self.factor.value = 1.0
        paper = paper_exponents(self.view.explanation.instances)
        for name, control in self.exponents.items():
            control.disabled = name not in paper
            control.value = paper.get(name, 0.0)
        powers = " · ".join(f"S_{n}^{p:g}" for n, p in paper.items())
        self.heading.value = heading_text(f"The ranking, as trained by S = {powers} (Eq. 2)")

    def _choose_basis(self) -> None:
        with self._quietly():
            self.factor.value = self.factors[self.basis.index]
        self._write_words()

    def _scale_basis(self) -> None:
        self.factors[self.basis.index] = self.factor.value
        self._recompose()
        self._draw_instance()

    def _reset_bases(self) -> None:
        self.factors = [1.0] * len(self.factors)
        with self._quietly():
            self.factor.value = 1.0
        self._recompose()
        self._draw_instance()

    def _reset_exponents(self) -> None:
        with self._quietly():
            for name, value in paper_exponents(self.view.explanation.instances).items():
                self.exponents[name].value = value
        self._draw_ranking()

    def _choose_instance(self) -> None:
        found = len(self.view.explanation.instances)
        image, *_ = overview_rows(self.view, self._instance if found else None, self.other)
        self.overview.value = png(sheet([image]))
        self._draw_instance()

    def _recompose(self) -> None:
        as_trained = all(factor == 1 for factor in self.factors)
        self.outcome = self.view.trained if as_trained else self.view.recompose(self.factors)
        self._rank()

    def _draw_instance(self) -> None:
        rows: list[Row] = []
        if len(self.outcome.instances):
            rows = instance_rows(self.view, self.outcome, self._instance, self.factors, self.other)
        self.detail.value = png(sheet(rows)) if rows else b""
        self.forming.show(self.view, self._instance, self.factors)
        self._write_words()
        self._write_table()

    def _write_words(self) -> None:
        lines = describe(self.view, self._instance, self.basis.index)
        changed = describe_change(self.view, self.outcome, self._instance, self.factors)
        self.words.value = paragraphs(lines, changed)

    def _draw_ranking(self) -> None:
        self._rank()
        self._write_table()

    def _rank(self) -> None:
        exponents = {name: control.value for name, control in self.exponents.items()}
        self.ranking = ranking_frame(self.view, self.outcome, exponents)
        after = image_ap(self.view, self.outcome, exponents)
        listed = f"The best {min(_LISTED, len(self.ranking))} of {len(self.ranking)} instances:"
        self.ap.value = paragraphs([_ap_line(self.ap_as_trained, after), listed])

    def _write_table(self) -> None:
        self.table.value = _table(self.ranking.head(_LISTED), self._instance)


@cache
def _loaded(candidate: Candidate) -> BasisSegmenter:
    return with_bases(load_model(candidate.path))


def _ap_line(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> str:
    if before["AP"] is None:
        return "AP of this image: not known, since its objects are not, or are of other classes."
    parts = [
        f"{name.replace('_', ' ')} {before[name]:.1f} as trained → {after[name]:.1f} now"
        for name in before
    ]
    return f"Of this image alone: {'; '.join(parts)}."


#: What the table calls the columns of ``ranking_frame``.
_HEADERS = {
    "was": "as trained",
    "object": "object overlapped",
    "IoU": "true IoU",
    "Dice": "true Dice",
}
_LOOKS = [
    {"selector": "th, td", "props": "padding: 2px 10px; text-align: right"},
    {"selector": "th", "props": "font-weight: 600"},
]


def _table(frame: Any, instance: int) -> str:
    def emphasised(row: Any) -> list[str]:
        strong = "font-weight: bold; background: #DCEBF7"
        return [strong if row.name == instance else ""] * len(row)

    styled = frame.rename(columns=_HEADERS).style.set_uuid("ranking").set_table_styles(_LOOKS)
    styled = styled.apply(emphasised, axis=1).hide(axis="index")
    return str(styled.format(precision=2, na_rep="–").to_html())
