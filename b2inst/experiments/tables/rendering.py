"""A table's result as text: Markdown, a terminal's lines, and a data frame for notebooks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from b2inst.experiments.specs.run_spec import COCO_MAX_DETECTIONS
from b2inst.experiments.specs.table_spec import CLASS_RANKED, COSTS, GROUPS, THRESHOLDED
from b2inst.experiments.tables.table_result import NOTHING, Difference, ResultRow, TableResult

if TYPE_CHECKING:
    import pandas as pd

#: Printed after a difference that is inside the noise.
NOISE = "≈"

#: Heading of a group of rows in Markdown.
_BOLD = "**{}**"

#: How the paper trained a row.
SETTING = ("backbone", "epochs", "Aug")

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


def to_frame(result: TableResult) -> pd.DataFrame:
    """Rows by (row, source) with source "paper", "ours" and "Δ <base>", cells as printed."""
    import pandas as pd  # here, since every worker imports this module and none shows a table

    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in result.rows:
        for source, cells in row_lines(row):
            lines[row.name, source] = {c: cells(c) for c in result.columns}
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=result.columns)
    frame.index = pd.MultiIndex.from_tuples(list(lines), names=["row", ""])
    return frame.rename(columns=_HEADINGS)


def to_markdown(result: TableResult) -> str:
    """A summary by row, then all cells, then what they were measured on."""
    return "\n".join(
        [
            f"# {result.table}: {result.provenance['title']}",
            "",
            f"Profile `{result.profile}`. Paper: {result.provenance['source']}.",
            "",
            *markdown_lines(summary(result, _BOLD)),
            "",
            *(_markdown_costs(result)),
            *markdown_lines(_all_cells(result)),
            "",
            *_contrasts(result),
            explain(result),
            "",
            *_origins(result),
        ]
    )


def to_text(result: TableResult) -> str:
    """The summary by row, for a terminal."""
    text = aligned(summary(result))
    return f"{text}\n\n{aligned(_costs(result))}" if _has_costs(result) else text


def _contrasts(result: TableResult) -> list[str]:
    """Each question with the difference that answers it; nothing where none is asked."""
    if not result.contrasts:
        return []
    columns = [column for column in result.columns if column not in COSTS]
    head = ["question", "difference", *map(heading, columns)]
    lines = [
        [c.asks, f"{c.row} − {c.base}", *(_difference(c.delta.get(column)) for column in columns)]
        for c in result.contrasts
    ]
    return [*markdown_lines([head, *lines]), ""]


def heading(column: str) -> str:
    """What a column is called where it is shown."""
    return _HEADINGS.get(column, column)


def aligned(cells: list[list[str]]) -> str:
    """A table as lines of text, its columns padded to the widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    ]
    return "\n".join(lines)


def summary(result: TableResult, group: str = "{}") -> list[list[str]]:
    first = next(column for column in result.columns if column not in COSTS)
    head = ["row", *SETTING] if has_settings(result) else ["row"]
    head += [f"{first} paper", "Δ paper", f"{first} ours", "Δ ours [95 %]"]
    boundary = "boundary_AP" in result.columns
    if boundary:
        head += ["boundary AP ours", "Δ ours [95 %]"]

    def cells(row: ResultRow) -> list[list[str]]:
        line = [row.name, *setting_cells(row)] if has_settings(result) else [row.name]
        line += [_paper(row, first), _paper_delta(result, row, first)]
        line += [measured_text(row, first), _delta(row, first)]
        if boundary:
            line += [measured_text(row, "boundary_AP"), _delta(row, "boundary_AP")]
        return [line]

    return [head, *_in_groups(result, cells, group, len(head))]


def _in_groups(
    result: TableResult, cells: Callable[[ResultRow], list[list[str]]], group: str, width: int
) -> list[list[str]]:
    """The lines of all rows, a heading where another group of rows begins."""
    lines = []
    for before, row in pairwise([None, *result.rows]):
        if row is not None:
            if row.group is not None and (before is None or before.group != row.group):
                lines.append([group.format(row.group), *[""] * (width - 1)])
            lines += cells(row)
    return lines


def has_settings(result: TableResult) -> bool:
    """Whether the table says how the paper trained its rows."""
    return any(row.setting is not None for row in result.rows)


def setting_cells(row: ResultRow) -> list[str]:
    """What the paper says of a row's training, under the headings ``SETTING``."""
    if row.setting is None:
        return [NOTHING] * len(SETTING)
    aug = "✓" if row.setting.multi_scale else NOTHING
    return [row.setting.backbone, str(row.setting.epochs), aug]


def setting_text(row: ResultRow) -> str:
    """How the paper says a row was trained, in words; nothing where it does not say."""
    if row.setting is None:
        return ""
    several = ", multi-scale" if row.setting.multi_scale else ""
    return f"{row.setting.backbone}, {row.setting.epochs} epochs{several}"


def _origins(result: TableResult) -> list[str]:
    """A list of where the paper's cells are from; nothing where that is not known."""
    lines = [f"- {row.name}: {row.origin}." for row in result.rows if row.origin is not None]
    return ["Where the paper has its cells from:", "", *lines, ""] if lines else []


def _has_costs(result: TableResult) -> bool:
    return any(column in COSTS for column in result.columns)


def _costs(result: TableResult) -> list[list[str]]:
    """What rows cost: the paper's FPS and ours, and our other columns of costs."""
    others = [c for c in result.columns if c in COSTS and c != "FPS"]
    lines = [["row", "FPS paper", "Δ paper", "FPS ours", "Δ ours [95 %]"]]
    lines[0] += [heading(c) for c in others]
    for row in result.rows:
        if "FPS" not in row.paper and row.status == "published only":
            continue  # nothing is known of what it costs
        line = [row.name, _paper(row, "FPS"), _paper_delta(result, row, "FPS")]
        line += [measured_text(row, "FPS"), _delta(row, "FPS")]
        lines.append(line + [measured_text(row, c) for c in others])
    return lines


def _markdown_costs(result: TableResult) -> list[str]:
    return [*markdown_lines(_costs(result)), ""] if _has_costs(result) else []


def _all_cells(result: TableResult) -> list[list[str]]:
    head = ["row", "", *(heading(c) for c in result.columns)]

    def cells(row: ResultRow) -> list[list[str]]:
        return [
            [row.name if i == 0 else "", source, *(cell(c) for c in result.columns)]
            for i, (source, cell) in enumerate(row_lines(row))
        ]

    return [head, *_in_groups(result, cells, _BOLD, len(head))]


def explain(result: TableResult) -> str:
    """What the numbers are and what they were measured on, in a paragraph."""
    provenance = result.provenance
    seeds = provenance.get("seeds") or []
    if not seeds:
        return "Nothing has been run yet; the cells are the paper's."
    spread = (
        f"mean ± sd over seeds {', '.join(map(str, seeds))}"
        if len(seeds) > 1
        else f"seed {seeds[0]} alone"
    )
    medium, large = provenance["area_bounds"]
    dirty = " with local changes" if provenance.get("dirty") else ""
    several = len({row.base for row in result.rows} - {None}) > 1
    base = "the row named (its own base)" if several else "the base row"
    text = (
        f"Values in percent. Ours: {spread} (number of seeds in brackets), on the "
        f"{provenance['images']} images of split `{provenance['split']}`. Δ: difference to {base} "
        f"on the same images and seeds, with its 95 % interval from {_noise(result)} "
        f"{NOISE}: the interval contains zero, so the difference is not statistically significant. "
        f"Small, medium and large objects are separated at areas of "
        f"{medium:g} and {large:g} pixels². The paper's cells are on COCO: on other data, compare "
        f"differences, not levels. {NOTHING}: no such objects, or no such cell. Code: commit "
        f"{(provenance.get('commit') or 'unknown')[:12]}{dirty}."
    )
    more = [*_explained_metrics(result), *_explained_costs(result)]
    return " ".join([text, *more, *filter(None, [provenance.get("note")])])


def _explained_metrics(result: TableResult) -> list[str]:
    """Of the columns that are not COCO's, and of the settings that change these."""
    facts = result.provenance
    lines = []
    if (limit := facts.get("max_detections", COCO_MAX_DETECTIONS)) != COCO_MAX_DETECTIONS:
        lines.append(f"Up to {limit} detections per image are evaluated, instead of COCO's 100.")
    if "boundary_AP" in result.columns and facts.get("swallowed") is not None:
        pixels = facts.get("boundary_pixels")
        width = "2 % of the image diagonal" if pixels is None else f"{pixels} pixels"
        lines.append(
            f"Boundaries are {width} wide; {facts['swallowed']:.1%} of the objects are no wider "
            "than their boundary, so their boundary IoU equals their mask IoU."
        )
    if set(GROUPS) & set(result.columns) and facts.get("touching") is not None:
        lines.append(
            f"{facts['touching']:.1%} of the {facts['objects']} objects touch another one, with "
            "at most one pixel between them; columns of one group ignore the objects of the other."
        )
    if set(THRESHOLDED) & set(result.columns):
        lines.append(
            "DSB AP is TP / (TP + FP + FN) over all objects, averaged over IoU thresholds from "
            "0.5 to 0.95 (2018 Data Science Bowl), and PQ is panoptic quality; both use the "
            "detections above the score that is best on split val, without overlaps."
        )
    return lines


def _explained_costs(result: TableResult) -> list[str]:
    speed = result.provenance.get("speed")
    if speed is None:
        return []
    return [
        "FPS: images per second, one at a time, from the image array to the run-length codes "
        f"of its full-size masks; median over {speed['images']} images ({speed['image_source']}), "
        f"with the weights of seed {speed['seed']}, all rows in turn; {speed['device']}, "
        f"{speed['dtype']}, CPU threads: {speed['threads']}. Δ of FPS: in percent of the base's, "
        "median over images, with its 95 % interval from ranks. The paper's FPS are of other "
        "hardware. Parameters in millions; GFLOPs: 10⁹ operations of convolutions and matrix "
        "products for the first image, two per multiply-add."
    ]


def _noise(result: TableResult) -> str:
    images = f"a paired bootstrap over images ({result.provenance['resamples']} resamples)"
    if any(delta.sd is not None for row in result.rows for delta in row.delta.values()):
        seeds = "Student's interval over the differences of the seeds (if there are several)"
        return f"{images} and {seeds}, combined."
    return f"{images}, without the variation between seeds."


def row_lines(row: ResultRow) -> list[tuple[str, Callable[[str], str]]]:
    """(source, function from column to cell) of each line that a row has."""
    lines: list[tuple[str, Callable[[str], str]]] = [("paper", lambda c: _paper(row, c))]
    if row.status == "published only":
        return lines
    lines.append(("ours", lambda c: measured_text(row, c)))
    if row.delta:
        lines.append((f"Δ {row.base}", lambda c: _delta(row, c)))
    return lines


def _paper(row: ResultRow, column: str) -> str:
    value = row.paper.get(column)
    return f"{value:.1f}" if isinstance(value, (int, float)) else NOTHING


def _paper_delta(result: TableResult, row: ResultRow, column: str) -> str:
    difference = result.paper_difference(row.name, column)
    if difference is None:
        return NOTHING
    return f"{_signed(difference)} %" if column == "FPS" else _signed(difference)


def measured_text(row: ResultRow, column: str) -> str:
    """A cell of ours: mean ± standard deviation (seeds)."""
    if row.status != "run":
        return row.status if row.status == "not run" else NOTHING
    cell = row.ours[column]
    if cell.mean is None:
        return NOTHING
    if column in COSTS:
        return _three_digits(cell.mean)
    return f"{cell.text()} ({cell.n})"


def _delta(row: ResultRow, column: str) -> str:
    return _difference(row.delta.get(column), unit=" %" if column == "FPS" else "")


def _difference(delta: Difference | None, *, unit: str = "") -> str:
    if delta is None or delta.mean is None:
        return NOTHING
    if delta.band95 is None:
        return f"{'+' if delta.mean >= 0 else '−'}{_three_digits(abs(delta.mean))}{unit}"
    return difference_text(delta.mean, delta.band95, unit=unit)


def difference_text(mean: float, band: tuple[float, float], *, unit: str = "") -> str:
    """A difference with its interval, marked where the interval has zero in it.

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


def markdown_lines(cells: list[list[str]]) -> list[str]:
    """A table of which the first line is the head."""
    head, *body = ["| " + " | ".join(line) + " |" for line in cells]
    return [head, "|" + "---|" * len(cells[0]), *body]
