"""The report of real results and of fabricated ones: links, pictures, numbers, what is absent."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import nbformat
import pandas as pd
import pytest

from b2inst.experiments import RunError, TableResult, Workspace
from b2inst.experiments.tables.notebook import to_html
from b2inst.viz.report import make_report

ROOT = Path(__file__).parents[2]
HASHES = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [v for k, v in attrs if k in ("href", "src") and v is not None]
        self.ids += [v for k, v in attrs if k == "id" and v is not None]
        self.loaded += [v for k, v in attrs if k == "src" and v is not None]
        if tag == "link":
            self.loaded.append(str(found["href"]))
        if tag == "img":
            self.pictures.append(found)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def table(self, number: int = 0) -> pd.DataFrame:
        """One of the page's tables, as text."""
        tables = re.findall("<table.*?</table>", self.text, flags=re.DOTALL)
        rows = re.findall("<tr.*?</tr>", tables[number], flags=re.DOTALL)
        cells = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
        whole = [row for row in cells if len(row) == len(cells[0])]
        return pd.DataFrame(whole[1:], columns=cells[0])


def broken(page: Page) -> list[str]:
    """Links that lead nowhere, or out of the results."""
    wrong = []
    for link in page.links:
        parts = urlparse(link)
        target = (page.path.parent / unquote(parts.path)).resolve()
        missing = bool(parts.fragment) and parts.fragment not in page.ids
        if parts.scheme != "data" and (
            parts.scheme or link.startswith("/") or (parts.path and not target.is_file()) or missing
        ):
            wrong.append(link)
    return wrong


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/table2.yaml").touch()
    return Workspace(tmp_path)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def results(workspace: Workspace) -> Path:
    """One table with a base row, a row of two runs (one without a record) and one not run."""
    folder = workspace.results / "tiny"
    cell = {"mean": 41.25, "sd": 1.5, "n": 2}
    low = {"mean": 21.25, "sd": 1.5, "n": 2}
    first = {"AP": cell, "AP50": cell, "boundary_AP": low}
    second = first | {"AP": cell | {"mean": 43.75}, "boundary_AP": low | {"mean": 23.75}}
    columns = ["AP", "AP50", "boundary_AP"]
    delta = {"mean": 2.5, "ci95": [1, 4], "band95": [-1, 6], "base": "baseline", "sd": 1.0}
    rows: list[dict[str, Any]] = [
        {
            "name": "baseline",
            "paper": {"AP": 35.8},
            "ours": {"AP": cell, "AP50": cell, "boundary_AP": low},
            "runs": [HASHES[0]],
        },
        {
            "name": "<HBB> & co",
            "paper": {"AP": 36.2, "source": "Table 1, row 2"},
            "ours": second,
            "delta": {"AP": delta},
            "runs": list(HASHES),
        },
        {"name": "last", "paper": {"AP": 36.8}},
    ]
    provenance = {"title": "Impact", "seeds": [0, 1], "area_bounds": [1, 2], "images": 3}
    provenance |= {"split": "test", "resamples": 9, "commit": "c" * 40}
    statuses = ("run", "run", "not run")
    table = {"table": "table1", "profile": "tiny", "columns": columns, "provenance": provenance}
    table["rows"] = [r | {"status": s} for r, s in zip(rows, statuses, strict=True)]
    write(folder / "table1/table1.json", table)
    record = {
        "spec": {"model": "blendmask-tiny", "seed": 0},
        "provenance": {"commit": "d" * 40, "dirty": True, "versions": {"torch": "2.15.0"}},
        "evaluation": {"images": 3, "split": "test", "metrics": {"AP": 41.75}},
    }
    record["provenance"]["steps"] = {"train": {"wall_seconds": 90, "peak_memory_mb": 1500}}
    write(folder / f"runs/{HASHES[0]}.json", record)
    return folder


@pytest.mark.parametrize("profile", ["tiny", "beyond", "nuclei"])
def test_the_committed_results_are_whole_and_load_nothing_from_elsewhere(
    profile: str, tmp_path: Path
) -> None:
    results = tmp_path / "results" / profile
    shutil.copytree(ROOT / "results" / profile, results)
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    page = Page(make_report(profile, Workspace(tmp_path), published=True))
    assert broken(page) == []
    pngs = {str(p.relative_to(results)) for p in results.glob("*/*.png")}
    assert pngs <= {str(picture["src"]) for picture in page.pictures}
    assert len(pngs) >= 2
    assert all(picture["alt"] for picture in page.pictures)
    notebooks = sorted(results.glob("*/*.ipynb"))
    assert len(notebooks) == 4 or profile != "tiny"
    assert {str(p.relative_to(results)) for p in notebooks} <= set(page.links)
    for each in (page, *map(Page, map(to_html, notebooks))):
        assert not [source for source in each.loaded if urlparse(source).scheme not in ("", "data")]
        assert str(tmp_path) not in each.text
    assert len(set(page.ids)) == len(page.ids)
    assert page.headings[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(page.headings))


def test_a_broken_link_and_a_load_from_elsewhere_would_be_found(
    workspace: Workspace, results: Path
) -> None:
    index = make_report("tiny", workspace)
    (results / "table1/table1.json").unlink()
    assert broken(Page(index)) == ["table1/table1.json"]
    index.write_text('<script src="https://example.org/x.js"></script>', encoding="utf-8")
    assert Page(index).loaded == ["https://example.org/x.js"]


def test_rows_lead_to_their_runs(workspace: Workspace, results: Path) -> None:
    page = Page(make_report("tiny", workspace))
    table = page.table(0)
    assert table["AP ours"].tolist() == ["41.2 ± 1.5 (2)", "43.8 ± 1.5 (2)", "not run"]
    assert table["AP paper"].tolist() == ["35.8", "36.2", "36.8"]
    assert table["boundary AP ours"].tolist() == ["21.2 ± 1.5 (2)", "23.8 ± 1.5 (2)", "not run"]
    assert table["row"][1] == "&lt;HBB&gt; &amp; co"
    link = f'<a href="runs/{HASHES[0]}.json" title="run {HASHES[0]}">0</a>'
    unknown = f"<code>{HASHES[1]}</code>"  # its record is not there
    assert table["runs by seed"].tolist() == [link, f"{link} {unknown}", ""]


def test_published_numbers_stand_beside_ours(workspace: Workspace, results: Path) -> None:
    assert not any("published" in name for name in Page(make_report("tiny", workspace)).table())
    table = json.loads((results / "table1/table1.json").read_text())
    table["rows"][0]["ours"]["AP"]["mean"] = 40.25
    write(workspace.published / "tiny/table1/table1.json", table)
    write(results / "table1-val/table1.json", table)  # of another split, which is not published
    page = Page(make_report("tiny", workspace))
    assert page.table(0)["AP published, 2 seeds"].tolist() == [
        "40.2 ± 1.5 (2)",
        "43.8 ± 1.5 (2)",
        "",
    ]
    assert "AP published, 2 seeds" not in page.table(1)
    assert page.text.count("No run here has the settings and the seed of a published one.") == 1
    page = Page(make_report("tiny", workspace, published=True))
    assert "AP published, 2 seeds" not in page.table(0)


def test_records_beside_a_table_are_its_own_alone(workspace: Workspace, results: Path) -> None:
    other = json.loads((results / "table1/table1.json").read_text())
    write(results / "table4/table4.json", other | {"table": "table4"})
    record = json.loads((results / f"runs/{HASHES[0]}.json").read_text())
    write(results / f"table4/runs/{HASHES[0]}.json", record)
    page = Page(make_report("tiny", workspace))
    for number, path in enumerate(("runs", "table4/runs")):
        assert f'href="{path}/{HASHES[0]}.json"' in page.table(number)["runs by seed"][0]


def test_an_executed_notebook_gets_its_page(workspace: Workspace, results: Path) -> None:
    cell = nbformat.v4.new_markdown_cell("# The *notebook*")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), results / "table1/table1.ipynb")
    page = Page(make_report("tiny", workspace))
    assert "table1/table1.html" in page.links
    assert "The <em>notebook</em>" in (results / "table1/table1.html").read_text("utf-8")


def test_what_is_not_there_is_said_and_not_linked(workspace: Workspace, results: Path) -> None:
    page = Page(make_report("tiny", workspace))
    assert broken(page) == []
    (not_run,) = re.findall(r"Not run: .*", page.text)
    assert re.findall(r"b2inst table (\w+) --profile tiny", not_run) == [
        "table2",
        "table3",
        "table4",
    ]
    assert "b2inst figures --profile tiny" in page.text


def test_tables_are_found_by_their_folders(workspace: Workspace, results: Path) -> None:
    table = json.loads((results / "table1/table1.json").read_text(encoding="utf-8"))
    for row in table["rows"]:
        row["paper"] = {}
    for folder, name in (
        ("own", "own"),
        ("own-val", "own"),
        ("own-long", "own-long"),
        ("own", "true_boxes"),
        ("ownership", "own"),
    ):
        write(results / folder / f"{name}.json", table | {"table": name})
    page = Page(make_report("tiny", workspace))
    named = re.findall('<h2 id="[^"]+">(.+?): Impact', page.text)
    assert named == ["Table 1", "own", "own-long", "own-val"]
    assert "AP paper" in page.table(0).columns
    assert "AP paper" not in page.table(1).columns  # it has no cells


def test_figures_show_their_caption_or_why_they_are_missing(
    workspace: Workspace, results: Path
) -> None:
    folder = results / "figures"
    folder.mkdir()
    (folder / "fig4.png").touch()
    (folder / "fig4.pdf").touch()
    records = [
        {"name": "fig4", "caption": "The paper's Fig. 4: by rule."},
        {"name": "fig5", "missing": "YOLACT is not trained: run `make table3`"},
    ]
    write(folder / "figures.json", {"figures": records})
    index = Page(make_report("tiny", workspace))
    assert broken(index) == []
    assert {"figures/fig4.png", "figures/fig4.pdf"} <= set(index.links)
    assert "<strong>fig5</strong> is not drawn" in index.text
    assert "<code>make table3</code>" in index.text


def test_a_profile_without_results_says_what_to_run(workspace: Workspace) -> None:
    with pytest.raises(RunError, match="b2inst table table1 --profile small"):
        make_report("small", workspace)


def test_text_can_be_read_on_its_ground_in_light_and_dark(
    workspace: Workspace, results: Path
) -> None:
    style = make_report("tiny", workspace).read_text(encoding="utf-8")
    schemes = re.findall(r":root \{(.*?)\}", style)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ground in ("ground", "raised"):
            for text in ("text", "quiet", "link"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_same_results_give_the_same_bytes(workspace: Workspace, results: Path) -> None:
    first = make_report("tiny", workspace).read_bytes()
    assert make_report("tiny", workspace).read_bytes() == first
    TableResult.load(results / "table1/table1.json")  # what was read is untouched
