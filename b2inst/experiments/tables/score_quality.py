"""How well the rows of a table rate their masks: ``score_quality.json`` and ``.md`` beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from b2inst.data import CocoIndex
from b2inst.evaluation import Prediction, read_predictions
from b2inst.evaluation.score_quality import (
    QUALITIES,
    CalibrationBin,
    Ratings,
    ap_by_ranking,
    calibration,
    calibration_error,
    oracle_rankings,
    rank_correlation,
    rate,
)
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import write_json
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.build import evaluated_split, finished_runs
from b2inst.experiments.tables.rendering import markdown_lines
from b2inst.experiments.tables.table_result import NOTHING, Measured, ResultRow, TableResult

#: What is compared with the truth.
SCORES = {"iou": "S_IoU", "boundary": "S_boundary", "class": "S_class", "mask": "S_mask"}

_RANKINGS = {
    "class": "S_class alone",
    "predicted": "as predicted",
    "true_iou": "true S_IoU",
    "true_boundary": "true S_boundary",
    "oracle": "oracle",
}
_METRICS = {"AP": "AP", "boundary_AP": "boundary AP"}

_EXPLAINED = (
    "Mean ± sd over seeds. AP in percent of the same detections ranked by S_class alone, by the "
    "score as predicted, with one predicted factor replaced by the truth, and with all of them "
    "(*oracle*: the ceiling of this head); *reached*: how much of the way from S_class alone to "
    "the oracle the head goes. The truth of a detection is the object of its class that its mask "
    "overlaps most; one that overlaps none has quality 0. ECE (expected calibration error, 0 to 1) "
    "and ρ (Spearman, with the true mask IoU / the true boundary Dice) are over the detections "
    "whose box has an IoU of at least 0.5 with that object's; their count is of all seeds."
)


class RowQuality(BaseModel):
    """One row that has a scoring head; means and sd over its runs."""

    model_config = ConfigDict(extra="forbid")

    name: str
    runs: list[str]
    of_object: int  #: detections that calibration and correlation are measured on
    calibration: dict[str, list[CalibrationBin]]  #: by quality; all runs together
    calibration_error: dict[str, Measured]  #: by quality
    correlation: dict[str, dict[str, Measured]]  #: Spearman: score → true quality → value
    ap: dict[str, dict[str, Measured]]  #: metric → ranking (``oracle_rankings``) → percent
    reached: dict[str, float | None]  #: percent of the way from S_class alone to the oracle


class ScoreQuality(BaseModel):
    """The rows of a table that have a scoring head."""

    table: str
    profile: str
    rows: list[RowQuality]
    provenance: dict[str, Any]


def score_quality(result: TableResult, workspace: Workspace) -> ScoreQuality:
    """Measure the scoring heads of a table and write the result beside it.

    Raises:
        RunError: A run's predictions no longer exist.
    """
    rows = [_row(row, result, workspace) for row in result.rows]
    shown = ("split", "images", "seeds", "data")
    quality = ScoreQuality(
        table=result.table,
        profile=result.profile,
        rows=[row for row in rows if row is not None],
        provenance={
            **describe_machine(),
            "rendered": now(),
            **{key: result.provenance.get(key) for key in shown},
        },
    )
    folder = result.folder(workspace)
    write_json(folder / "score_quality.json", quality.model_dump(mode="json"))
    (folder / "score_quality.md").write_text(quality_markdown(quality), encoding="utf-8")
    return quality


def _row(row: ResultRow, result: TableResult, workspace: Workspace) -> RowQuality | None:
    """None if no run has detections that a scoring head has rated."""
    ratings: dict[str, Ratings] = {}
    measured = []
    for run in finished_runs(result, row.name, workspace) if row.runs else ():
        detections = read_predictions(run.predictions_path(result.provenance["split"]))
        if detections and QUALITIES.values() & detections[0].keys():
            truth = evaluated_split(result, run, workspace)
            ratings[run.hash] = rate(detections, truth)
            measured.append(_measure(ratings[run.hash], detections, truth, run.spec()))
    if not ratings:
        return None
    ap = _over_seeds([one["ap"] for one in measured])
    return RowQuality(
        name=row.name,
        runs=list(ratings),
        of_object=sum(int(one.of_object.sum()) for one in ratings.values()),
        calibration=_calibration(list(ratings.values())),
        calibration_error=_over_seeds([one["calibration_error"] for one in measured]),
        correlation=_over_seeds([one["correlation"] for one in measured]),
        ap=ap,
        reached={metric: _reached(values) for metric, values in ap.items()},
    )


def _measure(
    ratings: Ratings, detections: list[Prediction], truth: CocoIndex, spec: RunSpec
) -> dict[str, Any]:
    kept = ratings.of_object
    scores = {**ratings.predicted, "class": ratings.class_scores, "mask": ratings.scores}
    bins = _calibration([ratings])
    return {
        "calibration_error": {name: calibration_error(found) for name, found in bins.items()},
        "correlation": {
            name: {q: rank_correlation(values[kept], t[kept]) for q, t in ratings.true.items()}
            for name, values in scores.items()
        },
        "ap": ap_by_ranking(
            detections,
            truth,
            oracle_rankings(ratings),
            max_detections=spec.max_detections,
            boundary_pixels=spec.data.boundary_pixels,
        ),
    }


def _calibration(runs: Sequence[Ratings]) -> dict[str, list[CalibrationBin]]:
    """The bins of all detections of some runs, for each quality that the head predicts."""
    bins = {}
    for name in runs[0].predicted:
        predicted = np.concatenate([run.predicted[name][run.of_object] for run in runs])
        true = np.concatenate([run.true[name][run.of_object] for run in runs])
        bins[name] = calibration(predicted, true)
    return bins


def _over_seeds(values: list[Any]) -> Any:
    """Mean and sd of numbers, or of the numbers at each place of nested dictionaries."""
    if isinstance(values[0], dict):
        return {key: _over_seeds([value[key] for value in values]) for key in values[0]}
    return Measured.of(values)


def _reached(ap: dict[str, Measured]) -> float | None:
    least, reached, most = (ap[name].mean for name in ("class", "predicted", "oracle"))
    if least is None or reached is None or most is None or most <= least:
        return None
    return 100 * (reached - least) / (most - least)


def quality_markdown(quality: ScoreQuality) -> str:
    """Render two tables: AP under other rankings, and agreement with the truth."""
    if not quality.rows:
        return "No row has detections that a scoring head has rated.\n"
    rankings = [["row", "", *_RANKINGS.values(), "reached"]]
    agreement = [
        ["row", "detections", "ECE S_IoU", "ECE S_boundary", *(f"ρ {s}" for s in SCORES.values())]
    ]
    for row in quality.rows:
        for name, (metric, heading) in zip((row.name, ""), _METRICS.items(), strict=True):
            reached = row.reached[metric]
            share = NOTHING if reached is None else f"{reached:.0f} %"
            cells = [_text(row.ap[metric].get(r), 1) for r in _RANKINGS]
            rankings.append([name, heading, *cells, share])
        errors = [_text(row.calibration_error.get(q), 3) for q in QUALITIES]
        found = [row.correlation.get(score, {}) for score in SCORES]
        ranks = [" / ".join(_text(true[q], 2) for q in QUALITIES if true) for true in found]
        agreement.append([row.name, str(row.of_object), *errors, *(r or NOTHING for r in ranks)])
    return "\n".join(
        [*markdown_lines(rankings), "", *markdown_lines(agreement), "", _EXPLAINED, ""]
    )


def _text(cell: Measured | None, digits: int) -> str:
    return NOTHING if cell is None else cell.text(digits)
