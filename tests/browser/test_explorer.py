"""The explorer in a real browser, in JupyterLab and served by voila.

Chromium is Debian's (``CHROMIUM=/usr/bin/chromium``). Screenshots go to ``B2INST_SCREENSHOTS``,
where that names a folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from b2inst import create_model, save_model
from b2inst.data.scenes import SCENE_CLASSES

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE = 600.0  # seconds; a busy machine imports PyTorch slowly
QUIET = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with the notebook and the weights of a model that finds something anywhere."""
    place = tmp_path_factory.mktemp("place")
    (place / "experiments").symlink_to(ROOT / "experiments")
    (place / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/explore_bases.ipynb", place / "notebooks")
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
def page(request: pytest.FixtureRequest, workspace: Path) -> Iterator[object]:
    """The notebook, run to its end, with a list ``errors`` of what went wrong in the page."""
    port = _free_port()
    served = _COMMANDS[request.param](port)
    environment = {
        **os.environ,
        "B2INST_PROFILE": "smoke",
        "B2INST_WEIGHTS": "model.safetensors",
        "B2INST_COCO_TINY": "",
        "B2INST_DATA": "",
        "B2INST_IMAGES": "",
        "JUPYTER_CONFIG_DIR": str(workspace / "config"),
    }
    log = (workspace / f"{request.param}.log").open("w")
    command = [sys.executable, "-m", *served]
    server = subprocess.Popen(command, cwd=workspace, env=environment, stdout=log, stderr=log)
    try:
        _until(lambda: _answers(port), "the server does not answer")
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
            opened = browser.new_page(viewport={"width": 1280, "height": 1000})
            opened.set_default_timeout(PATIENCE * 1000)
            errors: list[str] = []
            opened.on("pageerror", lambda error: errors.append(str(error)))
            _OPEN[request.param](opened, port)
            _until(lambda: len(_pictures(opened)) == 3, "no picture appears", opened)
            opened.wait_for_timeout(1000)
            yield opened
            _screenshot(opened, request.param)
            assert errors == []
            browser.close()
    finally:
        server.terminate()
        server.wait(60)
        log.close()


def test_the_explorer_answers_the_keyboard(page) -> None:  # type: ignore[no-untyped-def]
    assert "Error" not in page.inner_text("body")
    before = _pictures(page)
    _press(page, "times", "Home")  # the boundary basis is off
    _until(
        lambda: _pictures(page)[2] != before[2], "a basis is switched off, nothing changes", page
    )
    assert _pictures(page)[:2] == before[:2]
    assert "makes up 0% of all" in page.inner_text("body")

    ranking = page.inner_text("table#T_ranking")
    _press(page, "S_class to the", "Home")
    _until(lambda: page.inner_text("table#T_ranking") != ranking, "the ranking stays", page)

    before = _pictures(page)
    _press(page, "Instance", "ArrowRight")
    _until(
        lambda: _changed(before, _pictures(page)) == [True, False, True], "the instance stays", page
    )

    before = _pictures(page)
    _press(page, "Image", "ArrowRight")
    _until(lambda: _changed(before, _pictures(page)) == [True] * 3, "the image stays", page)
    assert "Error" not in page.inner_text("body")


def _voila(port: int) -> list[str]:
    return ["voila", "notebooks/explore_bases.ipynb", "--no-browser", f"--port={port}"]


def _lab(port: int) -> list[str]:
    """Without token and news, on a machine of one's own."""
    return [
        *("jupyterlab", "--no-browser", f"--port={port}", "--allow-root", "notebooks"),
        *("--IdentityProvider.token=", "--LabApp.news_url=None"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]


def _open_voila(page, port: int) -> None:  # type: ignore[no-untyped-def]
    page.goto(f"http://localhost:{port}", wait_until="commit")


def _open_lab(page, port: int) -> None:  # type: ignore[no-untyped-def]
    page.goto(f"http://localhost:{port}/lab/tree/explore_bases.ipynb?reset", wait_until="commit")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    # Before the kernel is connected the indicator says idle, too, and what is run is dropped.
    page.wait_for_selector("text=/\\| Idle/")
    for _ in range(20):
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        page.wait_for_timeout(3000)
        if page.locator(".jp-InputPrompt:text-is('[*]:'), .jp-InputPrompt:text-is('[1]:')").count():
            return
    raise AssertionError("JupyterLab does not run the notebook")


_COMMANDS: dict[str, Callable[[int], list[str]]] = {"voila": _voila, "lab": _lab}
_OPEN = {"voila": _open_voila, "lab": _open_lab}


def _press(page, slider: str, key: str) -> None:  # type: ignore[no-untyped-def]
    """Move a slider by keyboard, found by the words beside it."""
    row = page.locator(".widget-hslider", has=page.locator(f"label:text-is('{slider}')"))
    row.locator("[role=slider]").focus()
    page.keyboard.press(key)


def _pictures(page) -> list[str]:  # type: ignore[no-untyped-def]
    """What the explorer's three pictures: the image, its bases, the instance show."""
    script = """images => Promise.all(images.map(async image => {
        const bytes = await (await fetch(image.src)).arrayBuffer();
        const digest = await crypto.subtle.digest("SHA-256", bytes);
        return Array.from(new Uint8Array(digest)).join(" ");
    }))"""
    return list(page.eval_on_selector_all("img.widget-image", script))


def _changed(before: list[str], after: list[str]) -> list[bool]:
    return [a != b for a, b in zip(before, after, strict=True)]


def _until(condition: Callable[[], bool], complaint: str, page=None) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            if page is not None:
                _screenshot(page, "failed")
            raise AssertionError(complaint)
        time.sleep(0.1) if page is None else page.wait_for_timeout(100)


def _screenshot(page, name: str) -> None:  # type: ignore[no-untyped-def]
    if folder := os.environ.get("B2INST_SCREENSHOTS"):
        for i, image in enumerate(page.locator("img.widget-image").all()):
            image.scroll_into_view_if_needed()
            page.screenshot(path=Path(folder) / f"explorer-{name}-{i}.png")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("localhost", port)) == 0
