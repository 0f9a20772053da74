"""How well the rows of a table rate their masks: ``score_quality.json`` and ``.md`` beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pycocotools import mask as coco_mask
from pydantic import BaseModel

from b2inst.evaluation import Prediction, read_predictions
from b2inst.evaluation.average_precision import (
    BoundaryIoUs,
    EvaluationOptions,
    load_checked,
    read_metrics,
    run_evaluators,
)
from b2inst.evaluation.ground_truth import (
    Annotations,
    by_pair,
    code_of,
    count_common,
    inner_boundary,
)
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import write_json
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.build import evaluated_split, finished_runs
from b2inst.experiments.tables.rendering import heading, markdown_lines
from b2inst.experiments.tables.table_result import NOTHING, Measured, ResultRow, TableResult
from b2inst.ops.quality import EPSILON

#: What a scoring head may predict, and its field in prediction files.
QUALITIES = {"iou": "iou_score", "boundary": "boundary_score"}

#: What is compared with the truth.
SCORES = {"iou": "S_IoU", "boundary": "S_boundary", "class": "S_class", "mask": "S_mask"}

_RANKINGS = {
    "class": "S_class alone",
    "predicted": "as predicted",
    "true_iou": "true S_IoU",
    "true_boundary": "true S_boundary",
    "oracle": "oracle",
}

_EXPLAINED = (
    "Mean ± sd over seeds. AP in percent of the same detections ranked by S_class alone, by the "
    "score as predicted, with one predicted factor replaced by the truth, and with all of them "
    "(*oracle*: the ceiling of this head); *reached*: how much of the way from S_class alone to "
    "the oracle the head goes. The truth of a detection is the object of its class that its mask "
    "overlaps most; one that overlaps none has quality 0. ECE (expected calibration error, 0 to 1) "
    "and ρ (Spearman, with the true mask IoU / the true boundary Dice) are over the detections "
    "whose box has an IoU of at least 0.5 with that object's; their count is of all seeds."
)


@dataclass(frozen=True)
class CalibrationBin:
    """The detections with a predicted quality in [low, high), or [low, 1] in the last bin."""

    low: float
    high: float
    count: int
    predicted: float | None  #: mean predicted quality; None in an empty bin
    true: float | None  #: mean true quality


class RowQuality(BaseModel):
    """One row that has a scoring head; means and sd over its runs."""

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
    shown = {key: result.provenance.get(key) for key in ("split", "images", "seeds", "data")}
    quality = ScoreQuality(
        table=result.table,
        profile=result.profile,
        rows=[row for row in rows if row is not None],
        provenance={**describe_machine(), "rendered": now(), **shown},
    )
    folder = result.folder(workspace)
    write_json(folder / "score_quality.json", quality.model_dump(mode="json"))
    (folder / "score_quality.md").write_text(quality_markdown(quality), encoding="utf-8")
    return quality


def _row(row: ResultRow, result: TableResult, workspace: Workspace) -> RowQuality | None:
    """None if no run has detections that a scoring head has rated."""
    ratings: dict[str, pd.DataFrame] = {}
    measured = []
    for run in finished_runs(result, row.name, workspace) if row.runs else ():
        detections = read_predictions(run.predictions_path(result.provenance["split"]))
        if not detections or not QUALITIES.values() & detections[0].keys():
            continue
        truth, spec = evaluated_split(result, run, workspace), run.spec()
        rated = rate(detections, truth)
        ratings[run.hash] = kept = rated[rated["of_object"]]
        ap = ap_by_ranking(
            detections,
            truth,
            oracle_rankings(rated),
            max_detections=spec.max_detections,
            boundary_pixels=spec.data.boundary_pixels,
        )
        correlation = {
            name: {q: rank_correlation(kept[name], kept[f"true_{q}"]) for q in QUALITIES}
            for name in SCORES
            if name in kept
        }
        error = {name: calibration_error(bins) for name, bins in _calibration(kept).items()}
        measured.append({"calibration_error": error, "correlation": correlation, "ap": ap})
    if not ratings:
        return None
    over_seeds = _over_seeds(measured)
    return RowQuality(
        name=row.name,
        runs=list(ratings),
        of_object=sum(map(len, ratings.values())),
        calibration=_calibration(pd.concat(ratings.values())),
        reached={metric: _reached(values) for metric, values in over_seeds["ap"].items()},
        **over_seeds,
    )


def _calibration(rated: pd.DataFrame) -> dict[str, list[CalibrationBin]]:
    """The bins of detections, for each quality that the head predicts."""
    known = [name for name in QUALITIES if name in rated]
    return {q: calibration(rated[q].to_numpy(), rated[f"true_{q}"].to_numpy()) for q in known}


def _reached(ap: dict[str, Measured]) -> float | None:
    least, own, most = (ap[name].mean for name in ("class", "predicted", "oracle"))
    if least is None or own is None or most is None or most <= least:
        return None
    return 100 * (own - least) / (most - least)


def _over_seeds(values: list[Any]) -> Any:
    """Mean and sd of numbers, or of the numbers at each place of nested dictionaries."""
    if isinstance(values[0], dict):
        return {key: _over_seeds([value[key] for value in values]) for key in values[0]}
    return Measured.of(values)


def rate(predictions: list[Prediction], annotations: Annotations) -> pd.DataFrame:
    """Measure the true qualities of detections, a line each.

    Returns:
        Numbers in [0, 1] for the ``SCORES`` that are predicted, ``true_iou``, ``true_boundary``:
        mask IoU and Dice of the boundaries (Eq. 1, in pixels of the image) with the annotation of
        the detection's class, no crowd, whose mask IoU is highest; 0 without overlap. And
        ``of_object``, whether the box IoU with it is at least 0.5, as where the head is trained.
    """
    truth = load_checked(predictions, annotations)
    objects = by_pair(a for a in truth.dataset["annotations"] if not a["iscrowd"])
    numbered = (record | {"number": i} for i, record in enumerate(predictions))
    iou, dice, of_object = np.zeros((3, len(predictions)))
    for pair, records in by_pair(numbered).items():
        if pair not in objects:
            continue
        both, crowds = (records, objects[pair]), [0] * len(objects[pair])
        codes, true_codes = ([code_of(r, truth.imgs[pair[0]]) for r in group] for group in both)
        boxes = [np.array([r["bbox"] for r in group], dtype=np.float64) for group in both]
        overlap, box_overlap = (coco_mask.iou(*s, crowds) for s in ((codes, true_codes), boxes))
        boundaries = [inner_boundary(code, width=1) for code in true_codes]
        for row, best in enumerate(overlap.argmax(axis=1)):
            if overlap[row, best] > 0:
                i, one, other = records[row]["number"], codes[row], boundaries[best]
                boundary = inner_boundary(one, width=1)
                sizes = boundary[1].sum() + other[1].sum()
                iou[i] = overlap[row, best]
                dice[i] = (2 * count_common(boundary, other) + EPSILON) / (sizes + EPSILON)
                of_object[i] = box_overlap[row, best] >= 0.5
    fields = {name: f for name, f in QUALITIES.items() if predictions and f in predictions[0]}
    fields |= {"class": "class_score", "mask": "score"}
    scores = {name: [p.get(f, p["score"]) for p in predictions] for name, f in fields.items()}
    rated = pd.DataFrame(scores, dtype=float)
    return rated.assign(true_iou=iou, true_boundary=dice, of_object=of_object.astype(bool))


def calibration(predicted: np.ndarray, true: np.ndarray, *, bins: int = 10) -> list[CalibrationBin]:
    """Compute the mean true quality, N in [0, 1], by predicted quality in bins of equal width."""
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    result = []
    for i in range(bins):
        inside = places == i
        means = [float(v[inside].mean()) if inside.any() else None for v in (predicted, true)]
        result.append(CalibrationBin(i / bins, (i + 1) / bins, int(inside.sum()), *means))
    return result


def calibration_error(bins: Iterable[CalibrationBin]) -> float | None:
    """Compute the mean |predicted - true| of the bins, by count; None if all bins are empty."""
    gaps = [
        (b.count, abs(b.predicted - b.true))
        for b in bins
        if b.predicted is not None and b.true is not None
    ]
    total = sum(count for count, _ in gaps)
    return sum(count * gap for count, gap in gaps) / total if total else None


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float | None:
    """Compute Spearman's correlation in [-1, 1]; None if it is undefined (constant, too few)."""
    if min(np.unique(one).size, np.unique(other).size) < 2:
        return None
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(one, other).statistic)


def oracle_rankings(rated: pd.DataFrame) -> dict[str, np.ndarray]:
    """Compute alternative scores of N detections that a head has rated, by name.

    ``class`` is S_class alone, ``predicted`` the ranking score, ``true_<quality>`` Eq. 2 with that
    factor replaced by the truth, ``oracle`` Eq. 2 with all factors that the head predicts replaced.
    """
    names = [name for name in QUALITIES if name in rated]
    true = {name: f"true_{name}" for name in names}
    factors = {true[one]: [true[n] if n == one else n for n in names] for one in names}
    rankings = {"class": rated["class"].to_numpy(), "predicted": rated["mask"].to_numpy()}
    for name, columns in {**factors, "oracle": list(true.values())}.items():
        product = np.prod(rated[columns].to_numpy(), axis=1)
        rankings[name] = rankings["class"] * product ** (1 / len(columns))
    return rankings


def ap_by_ranking(
    predictions: list[Prediction],
    annotations: Annotations,
    rankings: Mapping[str, np.ndarray],
    **options: Unpack[EvaluationOptions],
) -> dict[str, dict[str, float | None]]:
    """Compute mask and boundary AP, each by name, of the same detections under different scores."""
    truth = load_checked(predictions, annotations)
    found = {}
    known: BoundaryIoUs = {}
    for name, scores in rankings.items():
        ranked = [p | {"score": s} for p, s in zip(predictions, scores.tolist(), strict=True)]
        evaluators = run_evaluators(truth, ranked, ["segm", "boundary"], known=known, **options)
        found[name] = read_metrics(evaluators)
    return {m: {name: of[m] for name, of in found.items()} for m in ("AP", "boundary_AP")}


def quality_markdown(quality: ScoreQuality) -> str:
    """Render two tables: AP under other rankings, and agreement with the truth."""
    if not quality.rows:
        return "No row has detections that a scoring head has rated.\n"
    rankings = [["row", "", *_RANKINGS.values(), "reached"]]
    agreement = [
        ["row", "detections", "ECE S_IoU", "ECE S_boundary", *(f"ρ {s}" for s in SCORES.values())]
    ]
    nothing = Measured(mean=None)
    for row in quality.rows:
        for metric, reached in row.reached.items():
            name = row.name if metric == "AP" else ""
            share = NOTHING if reached is None else f"{reached:.0f} %"
            cells = [row.ap[metric].get(r, nothing).text() for r in _RANKINGS]
            rankings.append([name, heading(metric), *cells, share])
        errors = [row.calibration_error.get(q, nothing).text(3) for q in QUALITIES]
        found = [row.correlation.get(score, {}) for score in SCORES]
        ranks = [" / ".join(true[q].text(2) for q in QUALITIES if true) for true in found]
        agreement.append([row.name, str(row.of_object), *errors, *(r or NOTHING for r in ranks)])
    return "\n".join(
        [*markdown_lines(rankings), "", *markdown_lines(agreement), "", _EXPLAINED, ""]
    )
