"""The report in a real browser, as it is read from disk: by day and by night, on desk and phone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from b2inst.experiments import Workspace
from b2inst.experiments.tables.notebook import to_html
from b2inst.viz.report import make_report

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["tiny", "beyond", "nuclei"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a profile's committed results, alone in a folder."""
    profile = request.param
    place = tmp_path_factory.mktemp("place")
    (place / "experiments").symlink_to(ROOT / "experiments")
    shutil.copytree(ROOT / "results" / profile, place / "results" / profile)
    for measurement in (ROOT / "results").glob("*.json"):
        shutil.copy(measurement, place / "results")
    return make_report(profile, Workspace(place), published=True).parent


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_whole(site: Path, open_page: Any, width: int, scheme: str) -> None:
    looks = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with open_page(strict=True, **looks) as page:
        page.goto((site / "index.html").as_uri())
        for picture in page.locator("img").all():
            picture.evaluate("image => { image.loading = 'eager'; return image.decode(); }")
        assert page.locator("img").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (_lightness(page, "backgroundColor") > 128) == (scheme == "light")
        assert (_lightness(page, "color") > 128) == (scheme == "dark")


def test_boundary_ap_is_seen_without_scrolling(site: Path, open_page: Any) -> None:
    with open_page(strict=True, viewport={"width": 1280, "height": 900}) as page:
        page.goto((site / "index.html").as_uri())
        page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        tables = page.locator("section:not(:has(#measurements)) table").all()
        assert tables
        for table in tables:
            head = table.locator("th", has_text="boundary AP").first
            box = head.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= 1280


def test_pages_ask_for_nothing_from_elsewhere(site: Path, open_page: Any) -> None:
    pages = [site / "index.html", *map(to_html, site.glob("*/*.ipynb"))]
    with open_page(strict=True) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for path in pages:
            page.goto(path.as_uri())
    assert len(asked) >= len(pages)
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data", "blob"}


def test_a_row_leads_to_its_runs(site: Path, open_page: Any) -> None:
    with open_page(strict=True) as page:
        page.goto((site / "index.html").as_uri())
        page.locator("section table a").first.click()
        page.wait_for_url("**/runs/*.json")
        assert "fingerprint" in page.inner_text("body")


def _lightness(page: Any, what: str) -> float:
    """Of the page's colour, 0 to 255."""
    script = f"getComputedStyle(document.body).{what}.match(/[\\d.]+/g).map(Number)"
    red, green, blue, *_ = page.evaluate(script)
    return float(0.299 * red + 0.587 * green + 0.114 * blue)
