from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from b2inst import save_model
from b2inst.models import BasisSegmenter
from b2inst.viz.explore.panel import Explorer
from b2inst.viz.explore.sources import Sample, own_image, weights_file

Build = Callable[..., BasisSegmenter]


class Missing:
    """A data set of one image whose file is gone."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> Sample:
        return own_image("gone.png")


@pytest.fixture(scope="module")
def panel(build: Build, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    folder = tmp_path_factory.mktemp("weights")
    models = []
    for name in ("blendmask-tiny", "b2inst-condinst-tiny", "gated-blendmask-tiny"):
        save_model(build(name), folder / f"{name}.safetensors")
        models.append(weights_file(folder / f"{name}.safetensors"))
    Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(folder / "own.png")
    datasets = {"one": [sample], "two": [sample, own_image(folder / "own.png")]}
    datasets["missing"] = Missing()  # type: ignore[assignment]
    return Explorer(models, datasets, model=models[1], instance=1)


def shown(panel: Explorer) -> tuple[bytes, bytes, bytes, str, str]:
    return (
        bytes(panel.overview.value),
        bytes(panel.bases.value),
        bytes(panel.detail.value),
        panel.contributions.value,
        panel.ranking.value,
    )


def changed(panel: Explorer, action: Callable[[], None]) -> list[str]:
    before = shown(panel)
    action()
    names = ("overview", "bases", "detail", "contributions", "ranking")
    return [n for n, a, b in zip(names, before, shown(panel), strict=True) if a != b]


def test_it_opens_where_it_is_told(panel: Explorer) -> None:
    assert panel.instance.value == 2
    assert panel.basis.value == "boundary"
    assert all(picture.startswith(b"\x89PNG") for picture in shown(panel)[:3])
    assert panel.beside.value == panel.model.value  # there is no condinst-tiny here


def test_a_basis_can_be_scaled_and_put_back(panel: Explorer) -> None:
    original = shown(panel)

    assert changed(panel, panel.off.click) == ["detail"]
    assert panel.factor.value == 0.0
    panel.basis.value = "basis 1"
    assert panel.factor.value == 1.0  # each basis has its own
    panel.basis.value = "boundary"
    assert panel.factor.value == 0.0
    panel.reset.click()
    assert panel.factor.value == 1.0
    assert shown(panel) == original


def test_exponents_move_the_ranking_alone(panel: Explorer) -> None:
    def leave_out() -> None:
        panel.exponents["class"].value = 0.0

    original = panel.ranking.value
    paper = {name: control.value for name, control in panel.exponents.items()}
    assert paper == {"class": 1.0, "iou": 0.5, "boundary": 0.5}
    assert changed(panel, leave_out) == ["ranking"]
    panel.exponents["iou"].value = 2.0
    panel.paper.click()
    assert {name: control.value for name, control in panel.exponents.items()} == paper
    assert panel.ranking.value == original


def test_another_instance_is_another_picture(panel: Explorer) -> None:
    def step() -> None:
        panel.instance.value = 3

    pictures = set(changed(panel, step))
    assert {"overview", "detail", "contributions"} <= pictures
    assert "bases" not in pictures  # they are the image's
    panel.instance.value = 2


def test_another_model_brings_its_own_controls(panel: Explorer) -> None:
    labels = list(panel.models)
    panel.model.value = labels[0]
    assert list(panel.basis.options) == [f"basis {k}" for k in (1, 2, 3, 4)]
    assert panel.exponents["iou"].disabled
    assert not panel.exponents["class"].disabled
    assert panel.instance.value == 1
    panel.model.value = labels[1]
    assert panel.basis.value == "boundary"


def test_other_images(panel: Explorer) -> None:
    panel.dataset.value = "two"
    assert panel.image.max == 2
    panel.image.value = 2
    assert panel.message.value == ""
    assert panel.view.explanation.image.shape == (40, 50, 3)
    panel.dataset.value = "one"  # and back
    assert panel.image.max == 1
    assert panel.view.explanation.image.shape == (48, 64, 3)


def test_an_image_that_cannot_be_read_is_named(panel: Explorer) -> None:
    panel.dataset.value = "missing"
    assert "gone.png" in panel.message.value
    assert "--skip-bad" not in panel.message.value, "an option of commands"
    panel.dataset.value = "one"
    assert panel.message.value == ""


def test_only_refined_masks_form_and_by_the_step_that_is_chosen(panel: Explorer) -> None:
    labels = list(panel.models)
    assert panel.refinement.layout.display == "none"
    panel.model.value = labels[2]
    assert panel.refinement.layout.display is None
    assert (panel.step.min, panel.step.max) == (panel.play.min, panel.play.max) == (0, 12)
    composed, others = bytes(panel.steps.value), shown(panel)
    assert composed.startswith(b"\x89PNG")
    panel.step.value = 12
    assert bytes(panel.steps.value) != composed
    assert shown(panel) == others  # nothing else is drawn anew
    panel.instance.value = 3
    assert panel.step.value == 12
    last = bytes(panel.steps.value)
    panel.off.click()  # the step is of the scaled bases' mask
    assert bytes(panel.steps.value) != last
    panel.model.value = labels[1]
    assert panel.refinement.layout.display == "none"


def test_another_model_is_shown_beside(panel: Explorer) -> None:
    def show_other() -> None:
        panel.beside.value = next(iter(panel.models))

    assert changed(panel, show_other) == ["overview", "detail"]


def test_own_files(panel: Explorer) -> None:
    file = {"name": "x.png", "type": "image/png", "size": 8, "last_modified": datetime.now(UTC)}
    panel.upload.set_trait("value", ({**file, "content": memoryview(b"no image")},))
    assert "x.png" in panel.message.value
    content = io.BytesIO()
    Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(content, format="png")
    panel.upload.set_trait("value", ({**file, "content": memoryview(content.getvalue())},))
    assert panel.message.value == ""
    assert panel.dataset.value == "own: x.png"
    assert panel.view.explanation.image.shape == (40, 50, 3)
    panel.dataset.value = "one"
    assert panel.view.explanation.image.shape == (48, 64, 3)
