"""The explorer's controls for a mask that forms: a step to choose, or to watch go by."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

from b2inst.viz.explore.controls import WRAP, heading_text, paragraphs, picture, whole
from b2inst.viz.explore.forming_sheet import step_row
from b2inst.viz.explore.tiles import png, sheet
from b2inst.viz.explore.view import Formed, View
from b2inst.viz.explore.words import describe_forming

_INTERVAL = 400  # milliseconds from a step to the next


class FormingControls:
    """A section of the panel, ``box``; it is empty where masks are not refined."""

    def __init__(self) -> None:
        self.step = whole("Step", 0, 1, 0)
        self.play = widgets.Play(min=0, max=1, value=0, interval=_INTERVAL)
        self.heading, self.words, self.picture = widgets.HTML(), widgets.HTML(), picture()
        self.box = widgets.VBox()
        self._parts = (
            self.heading,
            widgets.HBox([self.step, self.play], layout=WRAP),
            self.words,
            self.picture,
        )
        self._shown: tuple[View, Formed, int] | None = None
        # Linked in the browser: the steps go by however long a picture takes.
        self._link = widgets.jslink((self.play, "value"), (self.step, "value"))
        self.step.observe(lambda _: self._draw(), "value")

    def show(self, view: View, instance: int, factors: Sequence[float]) -> None:
        """Follow an instance of a view, with each basis times a factor; the step is kept."""
        self._shown = None  # a step that is moved by the new limits draws nothing
        if view.steps and len(view.explanation.instances):
            self.heading.value = heading_text(f"The mask forms: {view.steps} steps")
            self.step.max = self.play.max = view.steps
            self._shown = view, view.form(instance, factors), instance
        self.box.children = self._parts if self._shown else ()
        self._draw()

    def _draw(self) -> None:
        if self._shown:
            view, formed, instance = self._shown
            step = self.step.value
            self.picture.value = png(sheet([step_row(view, formed, instance, step)]))
            self.words.value = paragraphs(describe_forming(view, formed, step))
