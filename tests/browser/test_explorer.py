"""The explorer in a real browser, in JupyterLab and served by voila."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from b2inst import create_model, save_model
from b2inst.data.scenes import SCENE_CLASSES

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
NOTEBOOK = "explore_bases.ipynb"
PICTURES = 3  # of the panel
ERRORS = ("Traceback", "error when executing")  # as JupyterLab and voila show them
PATIENCE = 300.0  # seconds; a busy machine imports PyTorch slowly


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with the notebook and the weights of a model that finds something anywhere."""
    place = tmp_path_factory.mktemp("place")
    (place / "experiments").symlink_to(ROOT / "experiments")
    (place / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, place / "notebooks")
    torch.manual_seed(0)
    model = create_model(
        "b2inst-blendmask-tiny",
        num_classes=len(SCENE_CLASSES),
        class_names=SCENE_CLASSES,
        shorter=48,
        longer_max=48,
    )
    head = model.instance_head
    torch.nn.init.constant_(head.class_logits.bias, 0.0)  # type: ignore[union-attr,arg-type]
    torch.nn.init.constant_(head.distances.bias, 1.5)  # type: ignore[union-attr,arg-type]
    with torch.no_grad():  # masks that fill neither nothing nor everything
        for values in model.basis_head.parameters():
            if values.ndim == 4:
                values.mul_(20 ** (1 / 3))
    save_model(model, place / "model.safetensors")
    return place


@pytest.fixture(params=["voila", "lab"])
def page(request, workspace: Path, serve, open_page, screenshots: Path) -> Iterator[object]:  # type: ignore[no-untyped-def]
    """The notebook, run to its end."""
    start = partial(
        serve,
        folder=workspace,
        B2INST_PROFILE="smoke",
        B2INST_WEIGHTS="model.safetensors",
        B2INST_COCO_TINY="",
        B2INST_DATA="",
        B2INST_IMAGES="",
    )
    with open_page(viewport={"width": 1280, "height": 1000}) as opened:
        {"voila": _in_voila, "lab": _in_lab}[request.param](opened, start)
        _until(lambda: _drawn(opened) == PICTURES, "no picture appears", opened)
        yield opened
        for i, image in enumerate(opened.locator("img.widget-image").all()[:PICTURES]):
            image.scroll_into_view_if_needed()
            opened.screenshot(path=screenshots / f"explorer-{request.param}-{i}.png")


def test_the_explorer_answers_the_keyboard(page) -> None:  # type: ignore[no-untyped-def]
    assert "Error" not in page.inner_text("body")
    before = _pictures(page)
    _press(page, "times", "Home")  # the boundary basis is off
    _until(
        lambda: _changed(before, _pictures(page)) == [False, False, True],
        "a basis is switched off, not only the instance changes",
        page,
    )

    ranking = page.inner_text("table#T_instance")
    _press(page, "S_class to the", "Home")
    _until(lambda: page.inner_text("table#T_instance") != ranking, "the ranking stays", page)

    before = _pictures(page)
    _press(page, "Instance", "ArrowRight")
    _until(
        lambda: _changed(before, _pictures(page)) == [True, False, True], "the instance stays", page
    )

    before = _pictures(page)
    _press(page, "Image", "ArrowRight")
    _until(lambda: _changed(before, _pictures(page)) == [True] * 3, "the image stays", page)
    assert "Error" not in page.inner_text("body")


def _in_voila(page, start: Callable[..., str]) -> None:  # type: ignore[no-untyped-def]
    page.goto(
        start("voila", f"notebooks/{NOTEBOOK}", "--show_tracebacks=True"), wait_until="commit"
    )


def _in_lab(page, start: Callable[..., str]) -> None:  # type: ignore[no-untyped-def]
    address = start(
        *("jupyterlab", "--allow-root", "notebooks"),
        *("--IdentityProvider.token=test", "--LabApp.news_url=None"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )
    page.goto(f"{address}/lab/tree/{NOTEBOOK}?reset&token=test", wait_until="commit")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    # Before the kernel is connected the indicator says idle, too, and what is run is dropped.
    page.wait_for_selector("text=/\\| Idle/")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        begun = ".jp-InputPrompt:text-is('[*]:'), .jp-InputPrompt:text-is('[1]:')"
        try:
            page.wait_for_selector(begun, timeout=10_000)
        except PlaywrightTimeout:
            continue
        return
    raise AssertionError("JupyterLab does not run the notebook")


def _press(page, slider: str, key: str) -> None:  # type: ignore[no-untyped-def]
    """Move a slider by keyboard, found by the words beside it."""
    row = page.locator(".widget-hslider", has=page.locator(f"label:text-is('{slider}')"))
    row.locator("[role=slider]").focus()
    page.keyboard.press(key)


def _pictures(page) -> list[str]:  # type: ignore[no-untyped-def]
    """What the explorer's three pictures: the image, its bases, the instance show."""
    script = """images => Promise.all(images.filter(i => i.naturalWidth).map(async image => {
        const bytes = await (await fetch(image.src)).arrayBuffer();
        const digest = await crypto.subtle.digest("SHA-256", bytes);
        return Array.from(new Uint8Array(digest)).join(" ");
    }))"""
    return list(page.eval_on_selector_all("img.widget-image", script))


def _changed(before: list[str], after: list[str]) -> list[bool]:
    """Which pictures differ; nothing while one of them is being replaced."""
    if len(before) != len(after):
        return []
    return [a != b for a, b in zip(before, after, strict=True)]


def _drawn(page) -> int:  # type: ignore[no-untyped-def]
    """How many of the explorer's pictures are there to be seen."""
    script = "images => images.filter(image => image.naturalWidth > 0).length"
    return int(page.eval_on_selector_all("img.widget-image", script))


def _until(condition: Callable[[], bool], complaint: str, page) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + PATIENCE
    while not condition():
        text = page.inner_text("body")
        assert not any(words in text for words in ERRORS), text
        assert time.monotonic() < end, complaint
        page.wait_for_timeout(100)
