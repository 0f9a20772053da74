"""A real browser, pages that remember what went wrong in them, and servers of notebooks.

``make test-browser`` runs these tests. ``CHROMIUM`` names the program where it is not found by
itself; screenshots are kept in the folder that ``B2INST_SCREENSHOTS`` names.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_SETTINGS = (
    *("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"),
    *("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"),
)
_PATIENCE = 300  # seconds; a busy machine is no defect


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    named = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here: `apt install chromium`, or name one with CHROMIUM=/path")
    return found


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of pages go."""
    named = os.environ.get("B2INST_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def driver() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture
def browser(driver: Playwright, chromium: str) -> Iterator[Browser]:
    """Chromium with an empty profile, a new one for each test."""
    launched = driver.chromium.launch(executable_path=chromium, args=list(_QUIET))
    yield launched
    launched.close()


OpenPage = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def open_page(browser: Browser, screenshots: Path, request: pytest.FixtureRequest) -> OpenPage:
    """A function: options of a browser context to an empty page.

    When the page is left, it is photographed, and the test fails if a script failed in it; with
    ``strict=True`` also if anything was written to its console as an error, or did not load.
    """

    @contextmanager
    def opened(*, strict: bool = False, **options: Any) -> Iterator[Page]:
        context = browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE * 1000)
        errors: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type == "error":
                errors.append(message.text)

        def missed(asked: Request) -> None:
            if asked.failure != "net::ERR_ABORTED":  # which is what leaving a page ends in
                errors.append(f"{asked.url}: {asked.failure}")

        page.on("pageerror", lambda error: errors.append(str(error)))
        if strict:
            page.on("console", note)
            page.on("requestfailed", missed)
        try:
            yield page
        finally:
            name = re.sub(r"[^\w.]+", "-", request.node.name).strip("-")
            page.screenshot(path=screenshots / f"{name}.png", full_page=strict)
            context.close()
        assert errors == []

    return opened


Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A function: starts ``python -m …`` in a folder, and returns the server's address.

    The server and the notebooks in it see no settings of the user's, and end with the test.
    """
    servers: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "server.log"

    def start(*words: str, folder: Path, **environment: str) -> str:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        own = {name: str(tmp_path / name.lower()) for name in _SETTINGS}
        with log.open("wb") as file:
            server = subprocess.Popen(
                [sys.executable, "-m", *words, "--no-browser", f"--port={port}"],
                cwd=folder,
                env={**os.environ, **own, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        servers.append(server)
        end = time.monotonic() + _PATIENCE
        while not _answers(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no answer\n{log.read_text()}"
            time.sleep(0.2)
        return f"http://localhost:{port}"

    yield start
    for server in servers:
        server.terminate()
        server.wait(60)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("localhost", port)) == 0
