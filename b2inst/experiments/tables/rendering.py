"""A table's result as Markdown, CSV, LaTeX, a terminal's lines, and a data frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2inst.experiments.specs.run_spec import COCO_MAX_DETECTIONS
from b2inst.experiments.specs.table_spec import CLASS_RANKED, COSTS, GROUPS, THRESHOLDED
from b2inst.experiments.tables.table_result import (
    NOTHING,
    Difference,
    Measured,
    ResultRow,
    TableResult,
)

if TYPE_CHECKING:
    import pandas as pd  # slow to import

#: Printed after a difference whose interval contains zero.
NOISE = "≈"

#: Lines of cells, the first of which is the head.
Cells = list[list[str]]

#: How the paper trained a row.
_SETTING = ("backbone", "epochs", "Aug")

_KINDS = {"": "", "boundary_": "boundary ", "box_": "box "}
_AP = {"AP": "AP", "AP50": "AP₅₀", "AP75": "AP₇₅", "APs": "AP_S", "APm": "AP_M", "APl": "AP_L"}
_HEADINGS = {p + c: k + head for p, k in _KINDS.items() for c, head in _AP.items()}
_HEADINGS |= {name: f"{_HEADINGS[own]} by S_class" for own, name in CLASS_RANKED.items()}
_HEADINGS |= {
    f"{group}_{own}": f"{_HEADINGS[own]} {group}"
    for group in ("touching", "isolated")
    for own in ("AP", "boundary_AP")
}
_HEADINGS |= {name: name.replace("dsb_AP", "DSB AP") for name in THRESHOLDED}
_HEADINGS["parameters"] = "parameters (M)"

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
    return _HEADINGS.get(column, column)


def write_table(result: TableResult, folder: Path) -> dict[str, Path]:
    """Write ``<table>.json``, ``.md``, ``.csv`` and ``.tex``; returns the files by ending."""
    files = {end: folder / f"{result.table}.{end}" for end in ("json", "md", "csv", "tex")}
    result.save(files["json"])
    for end, render in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        files[end].write_text(render(result), encoding="utf-8")
    return files


def to_text(result: TableResult) -> str:
    """Render the summary by row for a terminal."""
    tables = [summary(result), *_costs(result)]
    return "\n\n".join(map(aligned, tables))


def to_markdown(result: TableResult) -> str:
    """Render a summary by row, then all cells, then what they were measured on."""
    bold = "**{}**"
    tables = [summary(result, bold), *_costs(result), _all_cells(result, bold), *_contrasts(result)]
    lines = [
        f"# {result.table}: {result.provenance['title']}",
        "",
        f"Profile `{result.profile}`. Paper: {result.provenance['source']}.",
        "",
        *(line for table in tables for line in (*markdown_lines(table), "")),
        explain(result),
        "",
    ]
    origins = [f"- {row.name}: {row.origin}." for row in result.rows if row.origin is not None]
    if origins:
        lines += ["Where the paper has its cells from:", "", *origins, ""]
    return "\n".join(lines)


def to_frame(result: TableResult) -> pd.DataFrame:
    """Return rows by (row, source) with source "paper", "ours" and "Δ <base>", cells as printed."""
    import pandas as pd

    lines = [line for row in result.rows for line in _row_lines(row, result.columns)]
    index = pd.MultiIndex.from_tuples([(line[0], line[1]) for line in lines], names=["row", ""])
    return pd.DataFrame([line[2:] for line in lines], index, list(map(heading, result.columns)))


def to_csv(result: TableResult) -> str:
    """Render a line for each cell: row, metric, paper, ours_mean, ours_sd, n, delta and more."""
    import pandas as pd

    lines = [_csv_line(row, column) for row in result.rows for column in result.columns]
    frame = pd.DataFrame(lines).round(4)
    if "epochs" in frame:
        frame = frame.astype({"epochs": "Int64"})
    return frame.replace({True: "true", False: "false"}).to_csv(index=False)


def _csv_line(row: ResultRow, column: str) -> dict[str, Any]:
    ours = row.ours.get(column, Measured(mean=None))
    delta = row.delta.get(column)
    known = {} if delta is None else delta.model_dump()
    low, high = known.get("ci95") or (None, None)
    band_low, band_high = known.get("band95") or (None, None)
    return {
        "row": row.name,
        "metric": column,
        "paper": row.paper.get(column),
        "ours_mean": ours.mean,
        "ours_sd": ours.sd,
        "n": ours.n,
        "delta": known.get("mean"),
        "delta_low": low,
        "delta_high": high,
        "base": known.get("base"),
        "status": row.status,
        "delta_sd": known.get("sd"),
        "band_low": band_low,
        "band_high": band_high,
        "inside_noise": known.get("inside_noise"),
        **(vars(row.setting) if row.setting else {}),
    }


def to_latex(result: TableResult) -> str:
    """Render all cells as a ``tabular`` for booktabs; a comment has the caption."""
    frame = to_frame(result).rename_axis([None, None])
    text = frame.to_latex(escape=True, multirow=False)
    for plain, escaped in _LATEX.items():
        text = text.replace(plain, escaped)
    return f"% {result.table}, profile {result.profile}\n% {explain(result)}\n{text}"


def markdown_lines(cells: Cells) -> list[str]:
    """Render cells as a Markdown table."""
    head, *body = ["| " + " | ".join(line) + " |" for line in cells]
    return [head, "|" + "---|" * len(cells[0]), *body]


def aligned(cells: Cells) -> str:
    """Render cells as lines of text, columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    ]
    return "\n".join(lines)


def summary(result: TableResult, group: str = "{}") -> Cells:
    """Return the main metric, and boundary AP, of each row beside the paper's.

    Args:
        result: The table.
        group: Format of the headings of groups of rows.
    """
    first = next(column for column in result.columns if column not in COSTS)
    settings = _has_settings(result)
    head = ["row", *_SETTING] if settings else ["row"]
    head += [f"{first} paper", "Δ paper", f"{first} ours", "Δ ours [95 %]"]
    boundary = "boundary_AP" in result.columns
    head += ["boundary AP ours", "Δ ours [95 %]"] if boundary else []

    def cells(row: ResultRow) -> Cells:
        line = [row.name, *(_setting_cells(row) if settings else ())]
        line += _beside(result, row, first)
        if boundary:
            line += [measured_text(row, "boundary_AP"), _delta(row, "boundary_AP")]
        return [line]

    return [head, *_by_group(result, cells, group, len(head))]


def _costs(result: TableResult) -> list[Cells]:
    """A table of what rows cost, if the table has such columns."""
    if not set(COSTS) & set(result.columns):
        return []
    others = [c for c in result.columns if c in COSTS and c != "FPS"]
    head = ["row", "FPS paper", "Δ paper", "FPS ours", "Δ ours [95 %]", *map(heading, others)]
    lines = [
        [row.name, *_beside(result, row, "FPS"), *(measured_text(row, c) for c in others)]
        for row in result.rows
        if "FPS" in row.paper or row.status != "published only"
    ]
    return [[head, *lines]]


def _all_cells(result: TableResult, group: str) -> Cells:
    """A line for each source of a row."""
    head = ["row", "", *map(heading, result.columns)]

    def cells(row: ResultRow) -> Cells:
        first, *others = _row_lines(row, result.columns)
        return [first, *(["", *line[1:]] for line in others)]

    return [head, *_by_group(result, cells, group, len(head))]


def _contrasts(result: TableResult) -> list[Cells]:
    """A table of the questions with the differences that answer them, if any are asked."""
    if not result.contrasts:
        return []
    columns = [column for column in result.columns if column not in COSTS]
    lines = [
        [c.asks, f"{c.row} − {c.base}", *(_difference(c.delta.get(name)) for name in columns)]
        for c in result.contrasts
    ]
    return [[["question", "difference", *map(heading, columns)], *lines]]


def _by_group(
    result: TableResult, cells: Callable[[ResultRow], Cells], group: str, width: int
) -> Cells:
    """The lines of all rows, with a heading above each group of rows."""
    lines: Cells = []
    for name, rows in groupby(result.rows, key=lambda row: row.group):
        if name is not None:
            lines.append([group.format(name), *[""] * (width - 1)])
        for row in rows:
            lines += cells(row)
    return lines


def _row_lines(row: ResultRow, columns: Sequence[str]) -> Cells:
    """Name, source and cells of each line that a row has."""
    lines = [[row.name, "paper", *(_paper(row, c) for c in columns)]]
    if row.status != "published only":
        lines.append([row.name, "ours", *(measured_text(row, c) for c in columns)])
        if row.delta:
            lines.append([row.name, f"Δ {row.base}", *(_delta(row, c) for c in columns)])
    return lines


def _has_settings(result: TableResult) -> bool:
    """Whether the table says how the paper trained its rows."""
    return any(row.setting is not None for row in result.rows)


def _setting_cells(row: ResultRow) -> list[str]:
    """Return what the paper says of a row's training, under the headings ``_SETTING``."""
    if row.setting is None:
        return [NOTHING] * len(_SETTING)
    aug = "✓" if row.setting.multi_scale else NOTHING
    return [row.setting.backbone, str(row.setting.epochs), aug]


def _paper(row: ResultRow, column: str) -> str:
    value = row.paper.get(column)
    return f"{value:.1f}" if isinstance(value, (int, float)) else NOTHING


def _beside(result: TableResult, row: ResultRow, column: str) -> list[str]:
    """The paper's cell and difference to the base row, and ours."""
    difference = result.paper_difference(row.name, column)
    text = NOTHING if difference is None else _signed(difference) + _unit(column)
    return [_paper(row, column), text, measured_text(row, column), _delta(row, column)]


def _unit(column: str) -> str:
    """Unit of a difference."""
    return " %" if column == "FPS" else ""


def measured_text(row: ResultRow, column: str) -> str:
    """Render a cell of ours: mean ± standard deviation (seeds)."""
    if row.status != "run":
        return row.status if row.status == "not run" else NOTHING
    cell = row.ours[column]
    if cell.mean is None:
        return NOTHING
    return _three_digits(cell.mean) if column in COSTS else f"{cell.text()} ({cell.n})"


def _delta(row: ResultRow, column: str) -> str:
    return _difference(row.delta.get(column), unit=_unit(column))


def _difference(delta: Difference | None, *, unit: str = "") -> str:
    if delta is None or delta.mean is None:
        return NOTHING
    if delta.band95 is None:
        return f"{'+' if delta.mean >= 0 else '−'}{_three_digits(abs(delta.mean))}{unit}"
    return difference_text(delta.mean, delta.band95, unit=unit)


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
    facts = result.provenance
    seeds = facts.get("seeds") or []
    if not seeds:
        return "Nothing has been run yet; the cells are the paper's."
    spread = f"seed {seeds[0]} alone"
    if len(seeds) > 1:
        spread = f"mean ± sd over seeds {', '.join(map(str, seeds))}"
    medium, large = facts["area_bounds"]
    dirty = " with local changes" if facts.get("dirty") else ""
    several = len({row.base for row in result.rows} - {None}) > 1
    base = "the row named (its own base)" if several else "the base row"
    text = (
        f"Values in percent. Ours: {spread} (number of seeds in brackets), on the "
        f"{facts['images']} images of split `{facts['split']}`. Δ: difference to {base} "
        f"on the same images and seeds, with its 95 % interval from {_noise(result)} "
        f"{NOISE}: the interval contains zero, so the difference is not statistically significant. "
        f"Small, medium and large objects are separated at areas of "
        f"{medium:g} and {large:g} pixels². The paper's cells are on COCO: on other data, compare "
        f"differences, not levels. {NOTHING}: no such objects, or no such cell. Code: commit "
        f"{(facts.get('commit') or 'unknown')[:12]}{dirty}."
    )
    return " ".join(filter(None, [text, *_explained_columns(result), facts.get("note")]))


def _noise(result: TableResult) -> str:
    images = f"a paired bootstrap over images ({result.provenance['resamples']} resamples)"
    if any(delta.sd is not None for row in result.rows for delta in row.delta.values()):
        seeds = "Student's interval over the differences of the seeds (if there are several)"
        return f"{images} and {seeds}, combined."
    return f"{images}, without the variation between seeds."


def _explained_columns(result: TableResult) -> Iterator[str]:
    """Explanations of columns that are not COCO's, and of settings that change these."""
    facts, columns = result.provenance, set(result.columns)
    if (limit := facts.get("max_detections", COCO_MAX_DETECTIONS)) != COCO_MAX_DETECTIONS:
        yield f"Up to {limit} detections per image are evaluated, instead of COCO's 100."
    if "boundary_AP" in columns and facts.get("swallowed") is not None:
        pixels = facts.get("boundary_pixels")
        width = "2 % of the image diagonal" if pixels is None else f"{pixels} pixels"
        yield (
            f"Boundaries are {width} wide; {facts['swallowed']:.1%} of the objects are no wider "
            "than their boundary, so their boundary IoU equals their mask IoU."
        )
    if columns & set(GROUPS) and facts.get("touching") is not None:
        yield (
            f"{facts['touching']:.1%} of the {facts['objects']} objects touch another one, with "
            "at most one pixel between them; columns of one group ignore the objects of the other."
        )
    if columns & set(THRESHOLDED):
        yield (
            "DSB AP is TP / (TP + FP + FN) over all objects, averaged over IoU thresholds from "
            "0.5 to 0.95 (2018 Data Science Bowl), and PQ is panoptic quality; both use the "
            "detections above the score that is best on split val, without overlaps."
        )
    if (speed := facts.get("speed")) is not None:
        yield (
            "FPS: images per second, one at a time, from the image array to the run-length codes "
            f"of its full-size masks; median over {speed['images']} images "
            f"({speed['image_source']}), with the weights of seed {speed['seed']}, all rows in "
            f"turn; {speed['device']}, {speed['dtype']}, CPU threads: {speed['threads']}. Δ of "
            "FPS: in percent of the base's, median over images, with its 95 % interval from ranks. "
            "The paper's FPS are of other hardware. Parameters in millions; GFLOPs: 10⁹ operations "
            "of convolutions and matrix products for the first image, two per multiply-add."
        )
