from __future__ import annotations

from typing import Any

import pytest
from matplotlib.text import Annotation

from b2inst.benchmark import Benchmark, Overhead, Speed
from b2inst.benchmark.stages import STAGES
from b2inst.experiments import TableResult
from b2inst.viz.charts import stages_figure, tradeoff_figure


def _cell(mean: float, sd: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "sd": sd, "n": 2}


def _row(name: str, fps: float, ap: float, **more: Any) -> dict[str, Any]:
    ours = {"FPS": _cell(fps), "AP": _cell(ap, 1.5), "boundary_AP": _cell(ap / 2)}
    return {"name": name, "paper": {}, "ours": ours, "runs": [name], "status": "run", **more}


@pytest.fixture
def result() -> TableResult:
    rows = [
        _row("a", 100.0, 40.0, paper={"FPS": 45.3, "AP": 28.1}),
        _row("b", 90.0, 42.0, paper={"FPS": 42.5, "AP": 30.1}, base="a"),
        _row("c", 80.0, 41.0),
        _row("d", 70.0, 43.0, base="c"),
        {"name": "e", "paper": {}, "base": "c", "status": "not run"},
    ]
    provenance = {"speed": {"device": "A processor"}}
    content = {"table": "t", "profile": "tiny", "columns": ["FPS", "AP", "boundary_AP"]}
    return TableResult.model_validate({**content, "rows": rows, "provenance": provenance})


def _arrows(axis: Any) -> list[tuple[Any, Any]]:
    """From, to."""
    arrows = [text for text in axis.texts if isinstance(text, Annotation) and text.arrow_patch]
    return [(text.xyann, text.xy) for text in arrows]


def test_arrows_lead_from_baselines(result: TableResult) -> None:
    speed, boundary, paper = tradeoff_figure(result).axes
    assert _arrows(speed) == [((100.0, 40.0), (90.0, 42.0)), ((80.0, 41.0), (70.0, 43.0))]
    assert _arrows(boundary)[0] == ((40.0, 20.0), (42.0, 21.0))
    assert _arrows(paper) == [((45.3, 28.1), (42.5, 30.1))]
    assert not [bars for bars in paper.collections if bars.get_segments()]
    assert "A processor" in speed.get_xlabel()
    spreads = [bars.get_segments()[0].tolist() for bars in speed.collections]
    assert spreads[0] == [[100.0, 38.5], [100.0, 41.5]]


def test_rows_that_share_a_run_share_a_point(result: TableResult) -> None:
    same = result.row("a").model_copy(update={"name": "a again"})
    figure = tradeoff_figure(result.model_copy(update={"rows": [*result.rows, same]}))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["1  a = a again", "2  b", "3  c", "4  d"]


def test_the_legend_fits_many_rows(result: TableResult) -> None:
    more = [
        result.row("a").model_copy(update={"name": f"row {i}", "runs": [f"run {i}"]})
        for i in range(24)
    ]
    figure = tradeoff_figure(result.model_copy(update={"rows": [*result.rows, *more]}))
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0
    assert legend.y1 <= figure.bbox.height


def test_tables_that_were_not_run_show_the_papers_points_alone(result: TableResult) -> None:
    rows = [row.model_copy(update={"ours": {}, "runs": []}) for row in result.rows]
    empty = result.model_copy(update={"rows": rows, "provenance": {}})
    assert [len(_arrows(axis)) for axis in tradeoff_figure(empty).axes] == [0, 0, 1]
    rows = [row.model_copy(update={"paper": {}}) for row in rows]
    figure = tradeoff_figure(empty.model_copy(update={"rows": rows}))
    assert [len(axis.texts) for axis in figure.axes] == [0, 0]


def test_stages_are_stacked_to_the_whole() -> None:
    def speed(name: str, stages: dict[str, float]) -> Speed:
        return Speed(
            model=name,
            options={},
            network_size=(96, 96),
            detections=7,
            median_ms=sum(stages.values()),
            p90_ms=99.0,
            stages_ms=stages,
            parameters=1,
            gflops=1.0,
            peak_memory_mb=1.0,
        )

    base = speed("a", {"backbone": 5.0, "heads": 3.0, "paste": 2.0})
    more = speed("b", {"backbone": 5.0, "heads": 3.0, "scoring": 4.0, "paste": 2.0})
    overhead = Overhead(baseline="a", model="b", ratio=0.7, percent=40.0, percent_ci95=None)
    figure = stages_figure(
        Benchmark(
            speeds=[base, more],
            overheads=[overhead],
            images=50,
            image_source="",
            stand_in_detections=None,
            device="cpu",
            dtype="float32",
            threads=1,
        )
    )
    (axis,) = figure.axes
    assert [bars.get_label() for bars in axis.containers] == list(STAGES)
    paste = axis.containers[STAGES.index("paste")]
    assert [(bar.get_x(), bar.get_width()) for bar in paste] == [(8.0, 2.0), (12.0, 2.0)]
    assert len({bars[0].get_facecolor() for bars in axis.containers}) == len(STAGES)
    assert [text.get_text().strip() for text in axis.texts] == ["100 FPS", "71.4 FPS, +40.0 % time"]
