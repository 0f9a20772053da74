"""The ranking of an image's instances by Eq. 2, with exponents that can be moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from b2inst.evaluation import evaluate, to_records
from b2inst.structures import Instances
from b2inst.viz.explore.view import Outcome, View

#: Exponents by factor: "class", "iou", "boundary".
Exponents = Mapping[str, float]


def factors_of(instances: Instances) -> dict[str, Tensor]:
    """What the ranking score is a product of, N each in [0, 1]; those that are predicted."""
    factors = {
        "class": instances.class_scores,
        "iou": instances.iou_scores,
        "boundary": instances.boundary_scores,
    }
    return {name: values for name, values in factors.items() if values is not None}


def paper_exponents(instances: Instances) -> dict[str, float]:
    """Those of Eq. 2: S_class to 1, the qualities by their geometric mean."""
    qualities = [name for name in factors_of(instances) if name != "class"]
    return {"class": 1.0} | {name: 1 / len(qualities) for name in qualities}


def ranking_score(instances: Instances, exponents: Exponents) -> Tensor:
    """S_class^a · S_IoU^b · S_boundary^c, N; an exponent of 0 leaves a factor out."""
    factors = factors_of(instances)
    powers = [values ** exponents[name] for name, values in factors.items()]
    return torch.stack(powers).prod(0)


def places(scores: Tensor) -> Tensor:
    """N int64: the rank of each score, 1 for the largest; of equals the first one's is better."""
    order = scores.argsort(descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(1, len(scores) + 1)
    return ranks


def image_ap(view: View, outcome: Outcome, exponents: Exponents) -> dict[str, float | None]:
    """``AP`` and ``boundary_AP`` of this one image in percent, by COCO's rules.

    None where they cannot be measured: no object is known, or the classes are not the model's.
    """
    content = view.subject.annotations
    nothing: dict[str, float | None] = {"AP": None, "boundary_AP": None}
    if content is None or not content["annotations"] or not _same_classes(view, content):
        return nothing
    ids = [category["id"] for category in content["categories"]]
    scores = ranking_score(outcome.instances, exponents).clamp(0, 1)
    ranked = replace(outcome.instances, scores=scores)
    records = to_records(content["images"][0]["id"], ranked, ids)
    metrics = evaluate(records, content, max_detections=view.model.max_detections)
    return {name: metrics[name] for name in nothing}


def ranking_frame(view: View, outcome: Outcome, exponents: Exponents) -> pd.DataFrame:
    """A line an instance, the best-ranked first.

    Columns: ``instance`` (its place in the view, from 1), ``rank``, ``was`` (its rank as trained),
    ``class``, ``S_class``, ``S_IoU``, ``S_boundary`` (where predicted), ``S`` (the ranking score),
    and, against the object that it overlaps most, ``object`` (its class), ``IoU`` and ``Dice``. The
    index is the instance's place in the view, from 0.
    """
    instances, truth = outcome.instances, view.subject.truth
    scores = ranking_score(instances, exponents)
    titles = {"class": "S_class", "iou": "S_IoU", "boundary": "S_boundary"}
    names = ["–" if k < 0 else truth.names[k] for k in view.objects.tolist()]
    columns: dict[str, Any] = {
        "instance": range(1, len(instances) + 1),
        "rank": places(scores),
        "was": range(1, len(instances) + 1),
        "class": instances.names,
        **{titles[name]: values.numpy() for name, values in factors_of(instances).items()},
        "S": scores.numpy(),
        "object": names,
        "IoU": outcome.iou.numpy(),
        "Dice": outcome.dice.numpy(),
    }
    return pd.DataFrame(columns).sort_values("rank", kind="stable")


def _same_classes(view: View, content: dict[str, Any]) -> bool:
    known = view.model.class_names
    return known is None or list(known) == [c["name"] for c in content["categories"]]
