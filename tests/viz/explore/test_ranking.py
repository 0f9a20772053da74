from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from b2inst.models import BasisSegmenter
from b2inst.structures import Instances
from b2inst.viz.explore.ranking import (
    image_ap,
    paper_exponents,
    places,
    ranking_frame,
    ranking_score,
)
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.view import Outcome, View, look

Build = Callable[..., BasisSegmenter]


@pytest.fixture
def view(build: Build, subject: Subject) -> View:
    return look(build(), subject)


def outcome(subject: Subject, rows: list[int], **scores: list[float]) -> Outcome:
    """Masks of the true objects (-1: of nothing), all of the first object's class."""
    truth = subject.truth
    wrong = torch.zeros_like(truth.masks[0])
    wrong[40:46, 2:9] = True
    masks = torch.stack([truth.masks[k] if k >= 0 else wrong for k in rows])
    given = {name: torch.tensor(values) for name, values in scores.items()}
    instances = Instances(
        boxes=truth.boxes[[max(k, 0) for k in rows]],
        labels=truth.labels[[max(k, 0) for k in rows]],
        scores=torch.zeros(len(rows)),
        masks=masks,
        **given,
    )
    nothing = torch.full((len(rows),), torch.nan)
    return Outcome(instances, nothing, nothing)


def test_the_papers_exponents_give_the_models_own_scores(view: View) -> None:
    found = view.explanation.instances
    exponents = paper_exponents(found)
    assert exponents == {"class": 1.0, "iou": 0.5, "boundary": 0.5}
    torch.testing.assert_close(ranking_score(found, exponents), found.scores)
    alone = replace(found, boundary_scores=None)
    assert paper_exponents(alone) == {"class": 1.0, "iou": 1.0}
    assert paper_exponents(replace(alone, iou_scores=None)) == {"class": 1.0}


def test_scores_are_products_of_powers() -> None:
    made = Instances(
        torch.zeros((1, 4)),
        *(torch.tensor([0.0]), torch.tensor([0.5]), torch.tensor([0])),
        masks=torch.zeros((1, 2, 2), dtype=torch.bool),
        iou_scores=torch.tensor([0.25]),
        boundary_scores=torch.tensor([0.81]),
    )
    score = ranking_score(made, {"class": 2.0, "iou": 0.5, "boundary": 0.5})
    assert float(score) == pytest.approx(0.25 * 0.5 * 0.9)
    assert float(ranking_score(made, {"class": 0, "iou": 0, "boundary": 1})) == pytest.approx(0.81)


def test_places() -> None:
    assert places(torch.tensor([0.2, 0.9, 0.2, 0.5])).tolist() == [3, 1, 4, 2]


def test_exponents_decide_what_is_found_first(view: View, subject: Subject) -> None:
    # Of the first object's class: one mask of nothing, surer by class, and the true one.
    made = outcome(subject, [-1, 0, 1], class_scores=[0.9, 0.6, 0.8], iou_scores=[0.1, 0.9, 0.9])
    by_class = image_ap(view, made, {"class": 1.0, "iou": 0.0})
    by_both = image_ap(view, made, {"class": 1.0, "iou": 1.0})
    # Two classes: one is perfect, in the other the second of two detections is right: half.
    assert by_class["AP"] == pytest.approx(75.0, abs=0.5)
    assert by_both["AP"] == pytest.approx(100.0)
    assert by_both["boundary_AP"] == pytest.approx(100.0)


def test_ap_is_not_told_where_it_has_no_meaning(view: View, subject: Subject) -> None:
    unknown = {"AP": None, "boundary_AP": None}
    exponents = paper_exponents(view.explanation.instances)
    blind = replace(view, subject=replace(subject, annotations=None))
    assert image_ap(blind, view.trained, exponents) == unknown
    assert subject.annotations is not None
    renamed = [{"id": i, "name": f"other {i}"} for i in (11, 12, 13)]
    others = replace(subject, annotations=subject.annotations | {"categories": renamed})
    assert image_ap(replace(view, subject=others), view.trained, exponents) == unknown


def test_the_frame_is_ranked_and_says_what_was(view: View) -> None:
    frame = ranking_frame(view, view.trained, {"class": 0.0, "iou": 0.0, "boundary": 1.0})
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    assert frame["S_boundary"].is_monotonic_decreasing
    assert (frame["was"] == frame.index + 1).all()
    torch.testing.assert_close(
        torch.tensor(frame["S"].tolist()),
        view.explanation.instances.boundary_scores[frame.index.tolist()],  # type: ignore[index]
    )
    names = view.subject.truth.names
    for row, k in frame["object"].items():
        place = int(view.objects[row])  # type: ignore[index]
        assert k == (names[place] if place >= 0 else "–")
