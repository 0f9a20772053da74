"""The report of real results and of fabricated ones: links, pictures, numbers, what is absent."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from b2inst.experiments import RunError, TableResult, Workspace
from b2inst.viz.report import make_report

ROOT = Path(__file__).parents[3]
HASHES = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


class Page(HTMLParser):
    """What a page links to and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [v for k, v in attrs if k in ("href", "src") and v is not None]
        self.ids += [v for k, v in attrs if k == "id" and v is not None]
        if tag == "img":
            self.pictures.append(found)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def pages_of(index: Path) -> dict[Path, Page]:
    paths = [index, index.parent / "report/runs.html"]
    return {path.resolve(): Page(path) for path in paths}


def broken(pages: dict[Path, Page]) -> list[str]:
    """Links that lead nowhere, or out of the results."""
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlparse(link)
            if parts.scheme == "data":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = bool(parts.fragment) and parts.fragment not in pages[target].ids
            if parts.scheme or link.startswith("/") or not target.is_file() or missing:
                wrong.append(f"{path.name}: {link}")
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
    delta = {"mean": 2.5, "ci95": [1, 4], "band95": [-1, 6], "base": "baseline", "sd": 1.0}
    rows: list[dict[str, Any]] = [
        {"name": "baseline", "paper": {"AP": 35.8}, "ours": {"AP": cell}, "runs": [HASHES[0]]},
        {
            "name": "<HBB> & co",
            "paper": {"AP": 36.2, "source": "Table 1, row 2"},
            "ours": {"AP": cell | {"mean": 43.75}},
            "delta": {"AP": delta},
            "runs": list(HASHES),
        },
        {"name": "last", "paper": {"AP": 36.8}},
    ]
    provenance = {"title": "Impact", "seeds": [0, 1], "area_bounds": [1, 2], "images": 3}
    provenance |= {"split": "test", "resamples": 9, "commit": "c" * 40}
    statuses = ("run", "run", "not run")
    table = {"table": "table1", "profile": "tiny", "columns": ["AP"], "provenance": provenance}
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


def test_every_link_of_the_committed_results_leads_somewhere(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results/tiny", tmp_path / "results/tiny")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    pages = pages_of(make_report("tiny", Workspace(tmp_path), published=True))
    index, runs = pages.values()
    assert broken(pages) == []
    pngs = {p.relative_to(tmp_path / "results/tiny") for p in tmp_path.glob("results/tiny/*/*.png")}
    assert {str(p) for p in pngs} <= {picture["src"] for picture in index.pictures}
    assert len(pngs) >= 5
    assert all(picture["alt"] for picture in index.pictures)
    records = [p.stem for p in tmp_path.glob("results/tiny/runs/*.json")]
    assert {f"run-{name}" for name in records} <= set(runs.ids)
    for page in pages.values():
        assert len(set(page.ids)) == len(page.ids)
        assert page.headings[0] == 1
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps)
        assert str(tmp_path) not in page.text
        assert "<script" not in page.text


def test_a_broken_link_would_be_found(workspace: Workspace, results: Path) -> None:
    index = make_report("tiny", workspace)
    (results / "table1/table1.json").unlink()
    assert broken(pages_of(index)) == ["index.html: table1/table1.json"]


def test_our_numbers_lead_to_their_runs_and_the_papers_do_not(
    workspace: Workspace, results: Path
) -> None:
    index, runs = pages_of(make_report("tiny", workspace)).values()
    ((anchor, text),) = re.findall(
        r'<a href="report/runs.html#([\w-]+)">(43\.8[^<]*)</a>', index.text
    )
    assert text == "43.8 ± 1.5 (2)"
    section = runs.text.split(f'id="{anchor}"')[1].split("</section>")[0]
    assert f'href="#run-{HASHES[0]}"' in section
    assert "41.8" in section  # the seed's own value, of its record
    paper = re.findall(r'<tr class="paper">.*?</tr>', index.text, flags=re.DOTALL)
    assert len(paper) == 3
    assert "36.8" in paper[2]
    assert not any("<a " in line for line in paper)


def test_what_is_not_there_is_said_and_not_linked(workspace: Workspace, results: Path) -> None:
    pages = pages_of(make_report("tiny", workspace))
    index, runs = pages.values()
    assert broken(pages) == []
    assert "not run" in index.text
    assert "b2inst table table2 --profile tiny" in index.text
    assert "make figures PROFILE=tiny" in index.text
    assert f"<code>{HASHES[1]}</code>" in index.text  # its record is not there
    assert f"run-{HASHES[1]}" not in runs.text
    assert "&lt;HBB&gt; &amp; co" in index.text


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
    text = make_report("tiny", workspace).read_text(encoding="utf-8")
    named = re.findall('<h2 id="[^"]+">(.+?): Impact', text)
    assert named == ["Table 1", "own", "own-long", "own-val"]
    assert text.count('<tr class="paper">') == len(table["rows"])  # of Table 1 alone


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
    pages = pages_of(make_report("tiny", workspace))
    index = next(iter(pages.values()))
    assert broken(pages) == []
    assert {"figures/fig4.png", "figures/fig4.pdf"} <= set(index.links)
    assert "<strong>fig5</strong> is not drawn" in index.text
    assert "<code>make table3</code>" in index.text


def test_runs_show_where_they_come_from(workspace: Workspace, results: Path) -> None:
    runs = list(pages_of(make_report("tiny", workspace)).values())[1]
    for fact in ("d" * 40 + " with local changes", "torch 2.15.0", "train 1.5 min, 1.50 GB"):
        assert fact in runs.text


def test_benchmarks_of_the_profile_and_of_all_are_shown(
    workspace: Workspace, results: Path
) -> None:
    speed = {
        "model": "blendmask-r50",
        "network_size": [800, 1333],
        "median_ms": 500.0,
        "p90_ms": 600.0,
        "stages_ms": {"backbone": 300.0, "bases": 200.0},
        "parameters": 36_000_000,
        "gflops": 200.0,
        "peak_memory_mb": 900.0,
    }
    write(results.parent / "bench.json", {"speeds": [speed], "images": 50, "overheads": []})
    write(results / "other.json", {"images": 50})
    inner = {"speeds": [speed | {"median_ms": 250.0}], "images": 50}
    write(results / "table1/speed.json", {"measured": {}, "benchmark": inner})
    pages = pages_of(make_report("tiny", workspace))
    index = next(iter(pages.values()))
    assert broken(pages) == []
    assert "<td>2.00</td>" in index.text  # images a second
    assert "<td>4.00</td>" in index.text  # of the table's own
    assert "width:60.0%" in index.text  # of the backbone
    assert {"../bench.json", "other.json"} <= set(index.links)


def test_a_profile_without_results_says_what_to_run(workspace: Workspace) -> None:
    with pytest.raises(RunError, match="make table1 PROFILE=small"):
        make_report("small", workspace)


def test_text_can_be_read_on_its_ground_in_light_and_dark(
    workspace: Workspace, results: Path
) -> None:
    make_report("tiny", workspace)
    style = (results / "report/style.css").read_text(encoding="utf-8")
    schemes = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ground in ("ground", "raised"):
            for text in ("text", "quiet", "link", "paper"):
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
