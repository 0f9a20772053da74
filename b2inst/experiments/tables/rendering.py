"""A table's result as Markdown, CSV, LaTeX, and a terminal's lines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby, product
from pathlib import Path
from typing import Any

from b2inst.experiments.specs.run_spec import COCO_MAX_DETECTIONS
from b2inst.experiments.specs.table_spec import COSTS, GROUPS, THRESHOLDED
from b2inst.experiments.tables.table_result import (
    NOTHING,
    ContrastResult,
    Difference,
    Measured,
    ResultRow,
    TableResult,
)

#: Printed after a difference whose interval contains zero.
NOISE = "≈"

#: Lines of cells, the first of which is the head.
Cells = list[list[str]]

_NAMES = {"AP50": "AP₅₀", "AP75": "AP₇₅", "APs": "AP_S", "APm": "AP_M", "APl": "AP_L"}
_NAMES["parameters"] = "parameters (M)"
_PREFIXES = {
    "boundary": "boundary {}",
    "box": "box {}",
    "class": "{} by S_class",
    "touching": "{} touching",
    "isolated": "{} isolated",
}

#: What pdfLaTeX does not print.
_LATEX = {
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    NOTHING: "--",
    NOISE: r"$\approx$",
    "₅₀": "$_{50}$",
    "₇₅": "$_{75}$",
}


def heading(column: str) -> str:
    """Return what a column is called where it is shown."""
    prefix, _, name = column.partition("_")
    if prefix in _PREFIXES:
        return _PREFIXES[prefix].format(heading(name))
    return _NAMES.get(column, column.replace("dsb_", "DSB "))


def write_table(result: TableResult, folder: Path) -> dict[str, Path]:
    """Write ``<table>.json``, ``.md``, ``.csv`` and ``.tex``; returns the files by ending."""
    files = {end: folder / f"{result.table}.{end}" for end in ("json", "md", "csv", "tex")}
    result.save(files["json"])
    for end, render in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        files[end].write_text(render(result), encoding="utf-8")
    return files


def to_text(result: TableResult) -> str:
    """Render the summary by row for a terminal."""
    return "\n\n".join(aligned(cells) for cells in (summary(result), _costs(result)) if cells)


def to_markdown(result: TableResult) -> str:
    """Render a summary by row, then all cells, then what they were measured on."""
    bold = "**{}**"
    tables = (summary(result, bold), _costs(result), _all_cells(result, bold), _contrasts(result))
    lines = [
        f"# {result.table}: {result.provenance['title']}",
        "",
        f"Profile `{result.profile}`. Paper: {result.provenance['source']}.",
        "",
        *(line for table in tables if table for line in (*markdown_lines(table), "")),
        explain(result),
        "",
    ]
    origins = [f"- {row.name}: {row.origin}." for row in result.rows if row.origin is not None]
    if origins:
        lines += ["Where the paper has its cells from:", "", *origins, ""]
    return "\n".join(lines)


def to_csv(result: TableResult) -> str:
    """Render a line for each cell: row, metric, paper, ours_mean, ours_sd, n, delta and more."""
    import pandas as pd  # slow to import

    lines: list[dict[str, Any]] = []
    for row, column in product(result.rows, result.columns):
        ours = row.ours.get(column, Measured(mean=None))
        delta = row.delta.get(column, Difference(mean=None, base=""))
        low, high = delta.ci95 or (None, None)
        band_low, band_high = delta.band95 or (None, None)
        line = {
            "row": row.name,
            "metric": column,
            "paper": row.paper.get(column),
            "ours_mean": ours.mean,
            "ours_sd": ours.sd,
            "n": ours.n,
            "delta": delta.mean,
            "delta_low": low,
            "delta_high": high,
            "base": delta.base,
            "status": row.status,
            "delta_sd": delta.sd,
            "band_low": band_low,
            "band_high": band_high,
            "inside_noise": delta.inside_noise,
        }
        lines.append(line | (vars(row.setting) if row.setting else {}))
    frame = pd.DataFrame(lines).round(4)
    if "epochs" in frame:
        frame = frame.astype({"epochs": "Int64"})
    return frame.replace({True: "true", False: "false"}).to_csv(index=False)


def to_latex(result: TableResult) -> str:
    """Render all cells as a ``tabular`` for booktabs; a comment has the caption."""
    import pandas as pd

    head, *lines = _all_cells(result)
    frame = pd.DataFrame(lines, columns=head).set_index(head[:2]).rename_axis([None, None])
    text = frame.to_latex(escape=True, multirow=False)
    for plain, escaped in _LATEX.items():
        text = text.replace(plain, escaped)
    return f"% {result.table}, profile {result.profile}\n% {explain(result)}\n{text}"


def markdown_lines(cells: Cells) -> list[str]:
    """Render cells as a Markdown table."""
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in cells)
    head, *body = ["| " + " | ".join(line) + " |" for line in escaped]
    return [head, "|" + "---|" * len(cells[0]), *body]


def aligned(cells: Cells) -> str:
    """Render cells as lines of text, columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def summary(result: TableResult, group: str = "{}") -> Cells:
    """Return the main metric, and boundary AP, of each row beside the paper's.

    Args:
        result: The table.
        group: Format of the headings of groups of rows.
    """
    first = next(column for column in result.columns if column not in COSTS)
    settings = any(row.setting is not None for row in result.rows)
    boundary = "boundary_AP" in result.columns
    head = ["row", *(("backbone", "epochs", "Aug") if settings else ())]
    head += [f"{first} paper", "Δ paper", f"{first} ours", "Δ ours [95 %]"]
    head += ["boundary AP ours", "Δ ours [95 %]"] if boundary else []

    def cells(row: ResultRow) -> Cells:
        line = [row.name]
        if (how := row.setting) is not None:
            line += [how.backbone, str(how.epochs), "✓" if how.multi_scale else NOTHING]
        elif settings:
            line += [NOTHING] * 3
        line += _beside(result, row, first)
        if boundary:
            line += [measured_text(row, "boundary_AP"), _difference(row, "boundary_AP")]
        return [line]

    return _by_group(result, head, cells, group)


def _costs(result: TableResult) -> Cells:
    """A table of what rows cost; empty if the table has no such columns."""
    if not set(COSTS) & set(result.columns):
        return []
    others = [c for c in result.columns if c in COSTS and c != "FPS"]
    head = ["row", "FPS paper", "Δ paper", "FPS ours", "Δ ours [95 %]", *map(heading, others)]
    lines = [
        [row.name, *_beside(result, row, "FPS"), *(measured_text(row, c) for c in others)]
        for row in result.rows
        if "FPS" in row.paper or row.status != "published only"
    ]
    return [head, *lines]


def _all_cells(result: TableResult, group: str | None = None) -> Cells:
    """A line for each source of a row."""

    def cells(row: ResultRow) -> Cells:
        lines = [[row.name, "paper", *(_paper(row, c) for c in result.columns)]]
        if row.status != "published only":
            lines.append(["", "ours", *(measured_text(row, c) for c in result.columns)])
            if row.delta:
                lines.append(["", f"Δ {row.base}", *(_difference(row, c) for c in result.columns)])
        return lines

    return _by_group(result, ["row", "", *map(heading, result.columns)], cells, group)


def _contrasts(result: TableResult) -> Cells:
    """A table of the questions with the differences that answer them; empty without questions."""
    columns = [column for column in result.columns if column not in COSTS]
    lines = [
        [c.asks, f"{c.row} − {c.base}", *(_difference(c, column) for column in columns)]
        for c in result.contrasts
    ]
    return [["question", "difference", *map(heading, columns)], *lines] if lines else []


def _by_group(
    result: TableResult, head: list[str], cells: Callable[[ResultRow], Cells], group: str | None
) -> Cells:
    """The lines of all rows, with a heading of this format, if any, above each group of rows."""
    lines = [head]
    for name, rows in groupby(result.rows, key=lambda row: row.group):
        if name is not None and group is not None:
            lines.append([group.format(name), *[""] * (len(head) - 1)])
        for row in rows:
            lines += cells(row)
    return lines


def _paper(row: ResultRow, column: str) -> str:
    value = row.paper.get(column)
    return f"{value:.1f}" if isinstance(value, (int, float)) else NOTHING


def _beside(result: TableResult, row: ResultRow, column: str) -> list[str]:
    """The paper's cell and difference from the base row, and ours."""
    difference = result.paper_difference(row.name, column)
    text = NOTHING if difference is None else _signed(difference) + _unit(column)
    return [_paper(row, column), text, measured_text(row, column), _difference(row, column)]


def _unit(column: str) -> str:
    return " %" if column == "FPS" else ""


def measured_text(row: ResultRow, column: str) -> str:
    """Render a cell of ours: mean ± standard deviation (seeds)."""
    if row.status != "run":
        return row.status if row.status == "not run" else NOTHING
    cell = row.ours[column]
    if cell.mean is None:
        return NOTHING
    return _three_digits(cell.mean) if column in COSTS else f"{cell.text()} ({cell.n})"


def _difference(of: ResultRow | ContrastResult, column: str) -> str:
    delta = of.delta.get(column)
    if delta is None or delta.mean is None:
        return NOTHING
    if delta.band95 is None:
        return ("+" if delta.mean >= 0 else "−") + _three_digits(abs(delta.mean)) + _unit(column)
    return difference_text(delta.mean, delta.band95, unit=_unit(column))


def difference_text(mean: float, band: tuple[float, float], *, unit: str = "") -> str:
    """Render a difference with its interval, marked if that contains zero.

    Bounds have as many digits as it takes to see on which side of zero they are.
    """
    low, high = band
    mark = f" {NOISE}" if low <= 0 <= high else ""
    bounds = (_signed(b, next((d for d in (1, 2, 3) if round(b, d) or not b), 4)) for b in band)
    return f"{_signed(mean)}{unit} [{', '.join(bounds)}]{mark}"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _signed(value: float, digits: int = 1) -> str:
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if round(value, digits) else text.replace("−", "+")


def explain(result: TableResult) -> str:
    """Say what the numbers are and what they were measured on, in a paragraph."""
    facts, columns = result.provenance, set(result.columns)
    if not (seeds := facts.get("seeds")):
        return "Nothing has been run yet; the cells are the paper's."
    spread = f"mean ± sd over seeds {', '.join(map(str, seeds))}"
    if len(seeds) == 1:
        spread = f"seed {seeds[0]} alone"
    medium, large = facts["area_bounds"]
    dirty = " with local changes" if facts.get("dirty") else ""
    several = len({row.base for row in result.rows} - {None}) > 1
    base = "the row named (its own base)" if several else "the base row"
    noise = ", without the variation between seeds"
    deltas = [delta for row in result.rows for delta in row.delta.values()]
    if any(delta.sd is not None for delta in deltas):
        noise = " and Student's interval over the differences of the seeds (if there are several)"
        noise += ", combined"
    if any(cost.get("published") for cost in facts.get("runs", {}).values()):
        noise += (
            "; with published runs, the interval over images is as wide as in a published table, "
            "and left out for rows that none has"
        )
    said = [
        f"Values in percent. Ours: {spread} (number of seeds in brackets), on the "
        f"{facts['images']} images of split `{facts['split']}`. Δ: difference from {base} on the "
        "same images and seeds, with its 95 % interval from a paired bootstrap over images "
        f"({facts['resamples']} resamples){noise}. {NOISE}: the interval contains zero, so the "
        "difference is not statistically significant. Small, medium and large objects are "
        f"separated at areas of {medium:g} and {large:g} pixels². The paper's cells are on COCO: "
        f"on other data, compare differences, not levels. {NOTHING}: no such objects, or no such "
        f"cell. Code: commit {(facts.get('commit') or 'unknown')[:12]}{dirty}."
    ]
    if (limit := facts.get("max_detections", COCO_MAX_DETECTIONS)) != COCO_MAX_DETECTIONS:
        said.append(f"Up to {limit} detections per image are evaluated, instead of COCO's 100.")
    if "boundary_AP" in columns and facts.get("swallowed") is not None:
        pixels = facts.get("boundary_pixels")
        width = "2 % of the image diagonal" if pixels is None else f"{pixels} pixels"
        said.append(
            f"Boundaries are {width} wide; {facts['swallowed']:.1%} of the objects are no wider "
            "than their boundary, so their boundary IoU equals their mask IoU."
        )
    if columns & set(GROUPS) and facts.get("touching") is not None:
        said.append(
            f"{facts['touching']:.1%} of the {facts['objects']} objects touch another one, with "
            "at most one pixel between them; columns of one group ignore the objects of the other."
        )
    if columns & set(THRESHOLDED):
        said.append(
            "DSB AP is TP / (TP + FP + FN) over all objects, averaged over IoU thresholds from "
            "0.5 to 0.95 (2018 Data Science Bowl), and PQ is panoptic quality; both use the "
            "detections above the score that is best on split val, without overlaps."
        )
    if (speed := facts.get("speed")) is not None:
        said.append(
            "FPS: images per second, one at a time, from the image array to the run-length codes "
            f"of its full-size masks; median over {speed['images']} images "
            f"({speed['image_source']}), with the weights of seed {speed['seed']}, all rows in "
            f"turn; {speed['device']}, {speed['dtype']}, CPU threads: {speed['threads']}. Δ of "
            "FPS: in percent of the base's, median over images, with its 95 % interval from ranks. "
            "The paper's FPS are of other hardware. Parameters in millions; GFLOPs: 10⁹ operations "
            "of convolutions and matrix products for the first image, two per multiply-add."
        )
    return " ".join(filter(None, [*said, facts.get("note")]))
