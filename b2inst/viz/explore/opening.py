"""Which instance to open with: by a rule, and told."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from b2inst.models import BasisSegmenter
from b2inst.viz.explore.subjects import Subjects
from b2inst.viz.explore.view import Effect, View, look

_STRONG = 0.4  # class score
_FOUND = 0.5  # mask IoU with an object


@dataclass(frozen=True)
class Opening:
    """The mask that leaving the boundary out changes most, among some."""

    image: int  #: place in the gallery
    instance: int  #: place in the view
    reason: str


def opening(model: BasisSegmenter, subjects: Subjects, *, candidates: int = 12) -> Opening:
    """Look for the instance whose mask uses the boundary basis most, or else the gate.

    Considered are, in the first images, the objects that are found (class score of at least 0.4,
    mask IoU of at least 0.5), each by its best-ranked instance. What counts is the share of pixels
    that enter or leave the mask when the basis is switched off, or the mask left as composed,
    whether it gets better or worse.

    Args:
        candidates: how many images are looked at.
    """
    effects: list[tuple[int, int, Effect]] = []
    count = min(candidates, len(subjects))
    for i in range(count):
        view = look(model, subjects[i])
        if view.boundary_basis is None and not view.steps:
            return Opening(0, 0, "The masks of this model are made without a boundary basis.")
        scores = view.explanation.instances.class_scores
        good = (scores >= _STRONG) & (view.trained.iou >= _FOUND)
        firsts = {int(view.objects[n]): n for n in reversed(good.nonzero()[:, 0].tolist())}
        effects += [(i, n, _left_out(view, n)) for n in firsts.values()]
        off = "boundary basis" if view.boundary_basis is not None else view.refined_by
    if not effects:
        return Opening(0, 0, f"In the first {count} images no object is found.")
    changes = [effect.changed / max(effect.pixels, 1) for _, _, effect in effects]
    most = max(range(len(effects)), key=changes.__getitem__)
    image, instance, _ = effects[most]
    return Opening(
        image,
        instance,
        f"It opens at image {image + 1}, instance {instance + 1}. Of the {len(effects)} objects "
        f"that are found in the first {count} images, this is the one whose mask changes most when "
        f"the {off} is switched off: by {changes[most]:.0%} of its pixels, where the "
        f"median is {statistics.median(changes):.1%}.",
    )


def _left_out(view: View, instance: int) -> Effect:
    """One mask without the boundary basis; where there is none, without its last steps."""
    if view.boundary_basis is not None:
        return view.switch_off(instance, view.boundary_basis)
    return view.form(instance, [1.0] * view.num_bases).effect(view.steps, 0)
