"""The report in a real browser, as it is read from disk: by day and by night, on desk and phone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from b2inst.experiments import Workspace
from b2inst.viz.report import make_report

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PAGES = ("index.html", "report/runs.html")


@pytest.fixture(scope="module", params=["tiny", "beyond"])
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
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(site: Path, open_page: Any, name: str, width: int, scheme: str) -> None:
    looks = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with open_page(strict=True, **looks) as page:
        page.goto((site / name).as_uri())
        pictures = page.locator("img")
        for picture in pictures.all():
            picture.evaluate("image => { image.loading = 'eager'; return image.decode(); }")
        assert pictures.count() > 0 or name != "index.html"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").is_visible()
        assert (_lightness(page, "backgroundColor") > 128) == (scheme == "light")
        assert (_lightness(page, "color") > 128) == (scheme == "dark")


def test_every_link_leads_somewhere(site: Path, open_page: Any) -> None:
    places: dict[Path, set[str]] = {}
    links: list[tuple[Path, str]] = []
    with open_page(strict=True) as page:
        for path in (site / name for name in PAGES):
            page.goto(path.as_uri())
            places[path] = set(page.eval_on_selector_all("[id]", "all => all.map(one => one.id)"))
            found = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
            links += [(path, link) for link in found]
    assert links
    for source, link in links:
        parts = urlsplit(link)
        assert parts.scheme == "file", f"{source.name}: {link}"
        target = Path(unquote(parts.path))
        assert target.is_file(), f"{source.name}: {link}"
        assert not parts.fragment or parts.fragment in places[target], f"{source.name}: {link}"


def test_a_number_leads_to_its_run(site: Path, open_page: Any) -> None:
    with open_page(strict=True) as page:
        page.goto((site / PAGES[0]).as_uri())
        page.locator("tr.ours td a").first.click()
        page.wait_for_url("**/runs.html#*")
        row = page.locator(f"[id='{urlsplit(page.url).fragment}']")
        assert row.is_visible()
        row.locator("tbody a").first.click()
        record = page.locator(f"article[id='{urlsplit(page.url).fragment}']")
        record.locator("summary").click()
        assert "model: " in record.locator("pre").inner_text()


def _lightness(page: Any, what: str) -> float:
    """Of the page's colour, 0 to 255."""
    script = f"getComputedStyle(document.body).{what}.match(/[\\d.]+/g).map(Number)"
    red, green, blue, *_ = page.evaluate(script)
    return float(0.299 * red + 0.587 * green + 0.114 * blue)
