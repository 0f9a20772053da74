"""What a reader sees of a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

import b2inst
from b2inst.experiments.tables.rendering import (
    difference_text,
    explain,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
    write_table,
)
from b2inst.experiments.tables.table_result import TableResult


def _cell(mean: float | None, sd: float | None = None, n: int = 1) -> dict[str, Any]:
    return {"mean": mean, "sd": sd, "n": n}


@pytest.fixture
def result() -> TableResult:
    band = {"ci95": (-1.0, -0.04), "band95": (-1.0, -0.04), "inside_noise": False}
    delta = {"mean": -0.31, **band, "base": "baseline"}
    noisy = delta | {"sd": 0.9, "band95": (-2.55, 1.93), "inside_noise": True}
    empty = {"mean": None, "ci95": None, "base": "baseline"}
    rows: list[dict[str, Any]] = [
        {
            "name": "baseline",
            "paper": {"AP": 35.8, "APl": 51.1, "source": "row 1"},
            "ours": {"AP": _cell(40.26, 0.44, 3), "APl": _cell(None, n=0), "boundary_AP": _cell(9)},
            "runs": ["a", "b", "c"],
            "status": "run",
        },
        {
            "name": "HBB & more_of_it",
            "paper": {"AP": 36.2, "APl": 51.3},
            "ours": {"AP": _cell(39.95), "APl": _cell(None, n=0), "boundary_AP": _cell(8.96)},
            "delta": {"AP": delta, "APl": empty, "boundary_AP": noisy},
            "base": "baseline",
            "runs": ["d"],
            "status": "run",
        },
        {"name": "later", "paper": {"AP": 36.8}, "base": "baseline", "status": "not run"},
        {"name": "theirs", "paper": {"AP": 34.6}, "base": "baseline", "status": "published only"},
    ]
    provenance = {
        "title": "A title",
        "source": "a paper",
        "seeds": [0, 1, 2],
        "split": "test",
        "images": 500,
        "resamples": 1000,
        "area_bounds": [500, 800],
        "commit": "0123456789abcdef",
        "dirty": True,
    }
    return TableResult.model_validate(
        {
            "table": "table1",
            "profile": "tiny",
            "columns": ["AP", "APl", "boundary_AP"],
            "rows": rows,
            "provenance": provenance,
        }
    )


def test_a_bar_in_a_name_does_not_end_its_cell(result: TableResult) -> None:
    result.rows[1].name = "a | b"
    lines = [line for line in to_markdown(result).splitlines() if line.startswith("| a ")]
    assert lines
    assert all(line.startswith(r"| a \| b | ") for line in lines)


def test_markdown(result: TableResult) -> None:
    lines = to_markdown(result).splitlines()
    assert lines[0] == "# table1: A title"
    head = next(i for i, line in enumerate(lines) if line.startswith("| row"))
    assert lines[head + 2 : head + 6] == [
        "| baseline | 35.8 | – | 40.3 ± 0.4 (3) | – | 9.0 (1) | – |",
        "| HBB & more_of_it | 36.2 | +0.4 | 40.0 (1) | −0.3 [−1.0, −0.04] "
        "| 9.0 (1) | −0.3 [−2.5, +1.9] ≈ |",
        "| later | 36.8 | +1.0 | not run | – | not run | – |",
        "| theirs | 34.6 | −1.2 | – | – | – | – |",
    ]
    assert "|  | Δ baseline | −0.3 [−1.0, −0.04] | – | −0.3 [−2.5, +1.9] ≈ |" in lines
    assert "| theirs | paper | 34.6 | – | – |" in lines
    assert "-1" not in "".join(line for line in lines if "ours" in line)  # no sentinel of COCO's


def test_questions_are_shown_with_the_differences_that_answer_them(result: TableResult) -> None:
    assert "question" not in to_markdown(result)
    delta = {"mean": 1.26, "band95": (0.5, 2.0), "base": "baseline"}
    contrasts = [
        {"asks": "Does it?", "row": "more", "base": "less", "delta": {"AP": delta}},
        {"asks": "And this?", "row": "later", "base": "less"},
    ]
    asked = TableResult.model_validate({**result.model_dump(), "contrasts": contrasts})
    lines = to_markdown(asked).splitlines()
    assert "| question | difference | AP | AP_L | boundary AP |" in lines
    assert "| Does it? | more − less | +1.3 [+0.5, +2.0] | – | – |" in lines
    assert "| And this? | later − less | – | – | – |" in lines


@pytest.mark.parametrize(
    ("band", "shown"),
    [
        ((0.02, 1.34), "+0.7 [+0.02, +1.3]"),
        ((-0.002, 1.34), "+0.7 [−0.002, +1.3] ≈"),
        ((0.0, 1.34), "+0.7 [+0.0, +1.3] ≈"),
        ((0.1, 1.34), "+0.7 [+0.1, +1.3]"),
        ((-1.3, -0.04), "+0.7 [−1.3, −0.04]"),
    ],
)
def test_the_mark_never_contradicts_the_interval(band: tuple[float, float], shown: str) -> None:
    assert difference_text(0.7, band) == shown


def test_explanation_says_what_the_numbers_are(result: TableResult) -> None:
    text = explain(result)
    for part in ("seeds 0, 1, 2", "500 images", "`test`", "1000", "500 and 800", "0123456789ab "):
        assert part in text
    assert "with local changes" in text
    assert "≈: the interval contains zero" in text
    assert "Student's interval over the differences of the seeds" in text
    provenance = {**result.provenance, "seeds": [4]}
    assert "seed 4 alone" in explain(result.model_copy(update={"provenance": provenance}))
    provenance = {**result.provenance, "seeds": []}
    assert "Nothing has been run" in explain(result.model_copy(update={"provenance": provenance}))


@pytest.fixture
def pairs(result: TableResult) -> TableResult:
    """Two pairs, the second of one's own; FPS and parameters were measured."""

    def row(name: str, fps: float, base: str | None = None, **paper: float) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if base is not None:
            delta = {
                "AP": {"mean": 1.0, "band95": (0.5, 1.5), "base": base},
                "FPS": {"mean": -6.21, "band95": (-7.0, -5.96), "base": base},
                "parameters": {"mean": 0.268, "ci95": None, "base": base},
            }
        ours = {"AP": _cell(30), "FPS": _cell(fps), "parameters": _cell(0.667)}
        return {
            "name": name,
            "paper": paper,
            "ours": ours,
            "delta": delta,
            "base": base,
            "status": "run",
        }

    speed = {
        "device": "A processor",
        "dtype": "float32",
        "threads": 2,
        "images": 50,
        "image_source": "split test",
        "seed": 0,
    }
    rows = [
        row("YOLACT", 123.4, FPS=45.3, AP=28.1),
        row("B2Inst-YOLACT", 99.96, "YOLACT", FPS=42.5, AP=30.1),
        row("CondInst", 1234.5),
        row("B2Inst-CondInst", 0.4567, "CondInst"),
    ]
    return TableResult.model_validate(
        {
            "table": "table3",
            "profile": "tiny",
            "columns": ["FPS", "AP", "parameters"],
            "rows": rows,
            "provenance": {**result.provenance, "speed": speed, "note": "A note."},
        }
    )


def test_each_row_is_shown_against_its_own_base(pairs: TableResult) -> None:
    lines = to_markdown(pairs).splitlines()
    assert "| B2Inst-YOLACT | 30.1 | +2.0 | 30.0 (1) | +1.0 [+0.5, +1.5] |" in lines
    assert "| CondInst | – | – | 30.0 (1) | – |" in lines
    assert "|  | Δ YOLACT | −6.2 % [−7.0, −6.0] | +1.0 [+0.5, +1.5] | +0.268 |" in lines
    assert any(line.startswith("|  | Δ CondInst |") for line in lines)
    assert "its own base" in explain(pairs)


def test_costs_are_shown_to_three_digits_beside_the_papers(pairs: TableResult) -> None:
    lines = to_markdown(pairs).splitlines()
    head = lines.index("| row | FPS paper | Δ paper | FPS ours | Δ ours [95 %] | parameters (M) |")
    assert lines[head + 2 : head + 6] == [
        "| YOLACT | 45.3 | – | 123 | – | 0.667 |",
        # 42.5 of 45.3 images a second
        "| B2Inst-YOLACT | 42.5 | −6.2 % | 100 | −6.2 % [−7.0, −6.0] | 0.667 |",
        "| CondInst | – | – | 1234 | – | 0.667 |",
        "| B2Inst-CondInst | – | – | 0.457 | −6.2 % [−7.0, −6.0] | 0.667 |",
    ]
    text = explain(pairs)
    for part in ("50 images (split test)", "A processor", "CPU threads: 2", "seed 0", "A note."):
        assert part in text
    assert "FPS" in to_text(pairs)
    assert "A processor" in to_latex(pairs)
    fps = list(csv.DictReader(io.StringIO(to_csv(pairs))))[3]
    assert (fps["metric"], fps["delta"], fps["base"]) == ("FPS", "-6.21", "YOLACT")


def test_tables_without_costs_do_not_speak_of_them(result: TableResult) -> None:
    assert "FPS" not in to_markdown(result)


RESULTS = Path(b2inst.__file__).parents[1] / "results"
STORED = [
    file
    for file in sorted(RESULTS.glob("*/*/*.json"))
    if file.stem == file.parent.name and file.with_suffix(".md").is_file()
    if file.parts[-3] != "smoke"  # which is not committed
]


@pytest.mark.parametrize("file", STORED, ids=lambda file: str(file.relative_to(RESULTS)))
def test_committed_tables_render_as_they_are(file: Path, tmp_path: Path) -> None:
    for end, again in write_table(TableResult.load(file), tmp_path).items():
        if end != "json":
            assert again.read_text() == file.with_suffix(f".{end}").read_text()


def test_csv_has_a_line_a_cell(result: TableResult) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert len(lines) == 4 * 3
    first, hbb = lines[0], lines[3]
    assert (first["row"], first["metric"], first["paper"]) == ("baseline", "AP", "35.8")
    assert (first["ours_mean"], first["ours_sd"], first["n"]) == ("40.26", "0.44", "3")
    assert (hbb["delta"], hbb["delta_low"], hbb["delta_high"]) == ("-0.31", "-1.0", "-0.04")
    assert (hbb["base"], hbb["ours_sd"], hbb["inside_noise"]) == ("baseline", "", "false")
    noisy = lines[5]
    assert (noisy["delta_low"], noisy["delta_high"]) == ("-1.0", "-0.04")
    assert (noisy["band_low"], noisy["band_high"], noisy["delta_sd"]) == ("-2.55", "1.93", "0.9")
    assert noisy["inside_noise"] == "true"
    assert (first["inside_noise"], lines[4]["inside_noise"]) == ("", "")
    assert (lines[6]["status"], lines[6]["ours_mean"]) == ("not run", "")


def test_latex_is_escaped_and_regular(result: TableResult) -> None:
    text = to_latex(result)
    assert r"HBB \& more\_of\_it & paper & 36.2" in text
    assert r"$-$0.3 [$-$1.0, $-$0.04] &" in text
    assert r"$-$0.3 [$-$2.5, +1.9] $\approx$ \\" in text
    assert "≈: the interval contains zero" in text.split(r"\begin")[0]
    assert r"40.3 $\pm$ 0.4 (3)" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {4}


def test_text_lines_up(result: TableResult) -> None:
    lines = to_text(result).splitlines()
    assert len(lines) == 5
    place = lines[0].index("AP paper")
    assert [line[place : place + 4] for line in lines[1:]] == ["35.8", "36.2", "36.8", "34.6"]


def test_files_are_rendered_from_the_json_alone(result: TableResult, tmp_path: Path) -> None:
    files = write_table(result, tmp_path / "a")
    again = write_table(TableResult.load(files["json"]), tmp_path / "b")
    assert files.keys() == {"json", "md", "csv", "tex"}
    for end in files:
        assert files[end].read_bytes() == again[end].read_bytes()


@pytest.fixture
def grouped(result: TableResult) -> TableResult:
    """Two groups of rows, some of which the paper says how they were trained."""
    content = result.model_dump(mode="json")
    setting = {"backbone": "R-50", "epochs": 36, "multi_scale": True}
    for row, more in zip(
        content["rows"],
        (
            {"group": "two-stage", "setting": {"backbone": "R-50", "epochs": 12}},
            {"group": "two-stage", "origin": "quoted"},
            {"group": "single-stage", "setting": setting},
            {"group": "single-stage"},
        ),
        strict=True,
    ):
        row.update(more)
    return TableResult.model_validate(content)


def test_groups_have_headings_and_rows_their_training(grouped: TableResult) -> None:
    lines = to_markdown(grouped).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| row | backbone | epochs |"))
    assert [line.split(" | ")[:4] for line in lines[head + 2 : head + 8]] == [
        ["| **two-stage**", "", "", ""],
        ["| baseline", "R-50", "12", "–"],
        ["| HBB & more_of_it", "–", "–", "–"],
        ["| **single-stage**", "", "", ""],
        ["| later", "R-50", "36", "✓"],
        ["| theirs", "–", "–", "–"],
    ]
    assert sum("**two-stage**" in line for line in lines) == 2  # the summary and all cells
    assert lines[-1] == "- HBB & more_of_it: quoted."
    text = to_text(grouped).splitlines()
    assert [line.strip() for line in text if "-stage" in line] == ["two-stage", "single-stage"]


def test_files_say_how_rows_were_trained(grouped: TableResult) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(grouped))))
    assert [lines[6][key] for key in ("backbone", "epochs", "multi_scale")] == [
        "R-50",
        "36",
        "true",
    ]
    assert lines[3]["epochs"] == ""
