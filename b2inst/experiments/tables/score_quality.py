"""How well the rows of a table rate their masks: ``score_quality.json`` and ``.md`` beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from b2inst.data import CocoIndex
from b2inst.evaluation import Prediction, read_predictions
from b2inst.evaluation.predictions import iterate_predictions
from b2inst.evaluation.score_quality import (
    QUALITIES,
    CalibrationBin,
    ap_by_ranking,
    calibration,
    calibration_error,
    oracle_rankings,
    rank_correlation,
    rate,
)
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import Run, read_json, write_json
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.rendering import markdown_lines
from b2inst.experiments.tables.table_result import NOTHING, Measured, TableResult

#: What is set against the truth.
SCORES = {"iou": "S_IoU", "boundary": "S_boundary", "class": "S_class", "mask": "S_mask"}

_RANKINGS = {
    "class": "S_class alone",
    "predicted": "as predicted",
    "true_iou": "true S_IoU",
    "true_boundary": "true S_boundary",
    "oracle": "oracle",
}
_METRICS = {"AP": "AP", "boundary_AP": "boundary AP"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunQuality(_Part):
    """One run; also kept in its folder, since measuring takes seconds."""

    code: int  #: version of the evaluation code
    of_object: int = 0  #: detections that calibration and correlation are measured on
    calibration: dict[str, list[CalibrationBin]] = {}  #: by quality that the head predicts
    calibration_error: dict[str, float | None] = {}
    correlation: dict[str, dict[str, float | None]] = {}  #: Spearman: score → true quality → value
    ap: dict[str, dict[str, float | None]] = {}  #: metric → ranking (``oracle_rankings``) → percent


class RowQuality(_Part):
    """One row; means and sd over its runs."""

    name: str
    runs: list[str]
    of_object: int
    calibration: dict[str, list[CalibrationBin]]  #: all runs together
    calibration_error: dict[str, Measured]
    correlation: dict[str, dict[str, Measured]]
    ap: dict[str, dict[str, Measured]]
    reached: dict[str, float | None]  #: percent of the way from S_class alone to the oracle


class ScoreQuality(_Part):
    """The rows of a table that have a scoring head."""

    table: str
    profile: str
    rows: list[RowQuality]
    provenance: dict[str, Any]


def score_quality(result: TableResult, workspace: Workspace) -> ScoreQuality:
    """Measure the scoring heads of a table and write the result beside it.

    Raises:
        RunError: a run's predictions are not here any more.
    """
    rows = []
    for row in result.rows:
        measured = {
            name: measure_run(Run(workspace.runs / name), result, workspace) for name in row.runs
        }
        heads = {name: one for name, one in measured.items() if one.calibration}
        if heads:
            rows.append(_row(row.name, heads))
    shown = ("split", "images", "seeds", "data")
    quality = ScoreQuality(
        table=result.table,
        profile=result.profile,
        rows=rows,
        provenance={
            **describe_machine(),
            "rendered": now(),
            **{key: result.provenance.get(key) for key in shown},
        },
    )
    folder = workspace.results / result.profile / result.table
    write_json(folder / "score_quality.json", quality.model_dump(mode="json"))
    (folder / "score_quality.md").write_text(quality_markdown(quality), encoding="utf-8")
    return quality


def measure_run(run: Run, result: TableResult, workspace: Workspace) -> RunQuality:
    """One run, measured or read back; ``calibration`` is empty without a scoring head."""
    label = result.provenance["split"]
    predictions = run.predictions_path(label)
    if not predictions.is_file():
        raise RunError(
            f"{workspace.shown(predictions)}: no such file; make the run with "
            f"`make {result.table} PROFILE={result.profile}`"
        )
    code, kept = code_version.EVALUATION, predictions.with_name("score_quality.json")
    if kept.is_file() and read_json(kept).get("code") == code:
        return RunQuality.model_validate(read_json(kept))
    spec = run.spec()
    data = prepare(spec.data, workspace.data)
    index = load_split(data, data.report_split, workspace.data)
    quality = _measure(predictions, index, spec, code)
    write_json(kept, quality.model_dump(mode="json"))
    return quality


def _measure(path: Path, truth: CocoIndex, spec: RunSpec, code: int) -> RunQuality:
    first: Prediction = next(iterate_predictions(path), {})
    if not any(field in first for field in QUALITIES.values()):
        return RunQuality(code=code)
    detections = read_predictions(path)
    ratings = rate(detections, truth)
    kept = ratings.of_object
    scores = {**ratings.predicted, "class": ratings.class_scores, "mask": ratings.scores}
    bins = {
        name: calibration(values[kept], ratings.true[name][kept])
        for name, values in ratings.predicted.items()
    }
    return RunQuality(
        code=code,
        of_object=int(kept.sum()),
        calibration=bins,
        calibration_error={name: calibration_error(found) for name, found in bins.items()},
        correlation={
            name: {
                quality: rank_correlation(values[kept], true[kept])
                for quality, true in ratings.true.items()
            }
            for name, values in scores.items()
        },
        ap=ap_by_ranking(
            detections,
            truth,
            oracle_rankings(ratings),
            max_detections=spec.max_detections,
            boundary_pixels=spec.data.boundary_pixels,
        ),
    )


def _row(name: str, runs: dict[str, RunQuality]) -> RowQuality:
    every = list(runs.values())
    ap = _over_seeds([run.ap for run in every])
    return RowQuality(
        name=name,
        runs=list(runs),
        of_object=sum(run.of_object for run in every),
        calibration={
            quality: pooled([run.calibration[quality] for run in every])
            for quality in every[0].calibration
        },
        calibration_error=_over_seeds([run.calibration_error for run in every]),
        correlation=_over_seeds([run.correlation for run in every]),
        ap=ap,
        reached={metric: _reached(values) for metric, values in ap.items()},
    )


def pooled(runs: list[list[CalibrationBin]]) -> list[CalibrationBin]:
    """The bins of several runs as those of all their detections."""
    result = []
    for same in zip(*runs, strict=True):
        filled = [b for b in same if b.count]
        counts = [b.count for b in filled]
        predicted, true = (
            float(np.average(values, weights=counts)) if filled else None
            for values in ([b.predicted for b in filled], [b.true for b in filled])
        )
        result.append(CalibrationBin(same[0].low, same[0].high, sum(counts), predicted, true))
    return result


def quality_markdown(quality: ScoreQuality) -> str:
    """Two tables: AP under other rankings, and agreement with the truth."""
    if not quality.rows:
        return "No row has detections that a scoring head has rated.\n"
    rankings = [["row", "", *_RANKINGS.values(), "reached"]]
    agreement = [
        ["row", "detections", "ECE S_IoU", "ECE S_boundary", *(f"ρ {s}" for s in SCORES.values())]
    ]
    for row in quality.rows:
        for i, (metric, heading) in enumerate(_METRICS.items()):
            cells = [_text(row.ap[metric].get(r), 1) for r in _RANKINGS]
            reached = row.reached[metric]
            share = NOTHING if reached is None else f"{reached:.0f} %"
            rankings.append(["" if i else row.name, heading, *cells, share])
        errors = [_text(row.calibration_error.get(q), 3) for q in QUALITIES]
        found = [row.correlation.get(score, {}) for score in SCORES]
        both = [" / ".join(_text(true.get(q), 2) for q in QUALITIES) for true in found]
        ranks = [text if true else NOTHING for text, true in zip(both, found, strict=True)]
        agreement.append([row.name, str(row.of_object), *errors, *ranks])
    return "\n".join(
        [*markdown_lines(rankings), "", *markdown_lines(agreement), "", _EXPLAINED, ""]
    )


_EXPLAINED = (
    "Mean ± sd over seeds. AP in percent of the same detections ranked by S_class alone, by the "
    "score as predicted, with one predicted factor replaced by the truth, and with all of them "
    "(*oracle*: the ceiling of this head); *reached*: how much of the way from S_class alone to "
    "the oracle the head goes. The truth of a detection is the object of its class that its mask "
    "overlaps most; one that overlaps none has quality 0. ECE (expected calibration error, 0 to 1) "
    "and ρ (Spearman, with the true mask IoU / the true boundary Dice) are over the detections "
    "whose box has an IoU of at least 0.5 with that object's; their count is of all seeds."
)


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


def _text(cell: Measured | None, digits: int) -> str:
    return NOTHING if cell is None else cell.text(digits)
