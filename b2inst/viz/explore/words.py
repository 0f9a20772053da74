"""What a basis does to one mask, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.viz.explore.composition import Contributions
from b2inst.viz.explore.lens import Lens
from b2inst.viz.explore.view import Effect, Formed, Outcome, View


def describe(view: View, instance: int, basis: int) -> list[str]:
    """Sentences on what one basis does to one mask: its weight, its places, what it changes."""
    if not len(view.explanation.instances):
        return ["Nothing is found in this image."]
    apart = view.take_apart(instance, [1.0] * view.num_bases)
    name = view.basis_names[basis]
    who = f"The {name} basis" if basis == view.boundary_basis else name.capitalize()
    lines = [f"{who} {_weight(apart, basis)}"]
    lines.append(_places(view, instance, apart, basis))
    effect = view.switch_off(instance, basis)
    lines.append(f"Switched off, the others as trained: {_change(effect)}.")
    if view.steps:
        lines.append(f"(Contributions are to the mask as composed, before the {view.refined_by}.)")
    if apart.whole.weights is None:
        lines.append(
            "CondInst's masks are no sum over the bases: each instance has a small network of its "
            "own over all of them, so a contribution here is what is lost when the basis is left "
            "out, and the contributions do not add up."
        )
    elif apart.whole.weights.shape[1] > 1:
        lines.append("(A basis that is off keeps its attention, but on a map of zeros.)")
    return lines


def describe_change(
    view: View, outcome: Outcome, instance: int, factors: Sequence[float]
) -> list[str]:
    """A sentence on what scaled bases have made of one mask and its scores; none as trained.

    Args:
        outcome: of the view with these factors.
    """
    scaled = [f"{n} × {f:.1f}" for n, f in zip(view.basis_names, factors, strict=True) if f != 1]
    if not scaled or not len(outcome.instances):
        return []
    before, after = view.trained.instances, outcome.instances
    scores = [
        f"{title} {float(old[instance]):.2f} → {float(new[instance]):.2f}"
        for title, old, new in (
            ("S_IoU", before.iou_scores, after.iou_scores),
            ("S_boundary", before.boundary_scores, after.boundary_scores),
        )
        if old is not None and new is not None
    ]
    rated = f" Rated anew from the new mask: {', '.join(scores)}." if scores else ""
    changed = _change(view.effect(instance, outcome))
    return [f"Your change ({', '.join(scaled)}): {changed}.{rated}".replace("-", "−")]


def describe_forming(view: View, formed: Formed, step: int) -> list[str]:
    """Sentences on what the steps up to one have made of a mask of the view.

    Args:
        step: 0, as composed, to S.
    """
    count = formed.forming.steps
    lines = []
    if formed.forming.guide is not None:
        lines.append(
            "The composed logits spread from cell to cell, in steps that grow, and hardly cross a "
            "predicted boundary."
        )
    if step == 0:
        return [*lines, f"This is the mask as composed of the bases, before the {view.refined_by}."]
    made = _change(formed.effect(0, step))
    return [*lines, f"From the composed mask to step {step} of {count}: {made}."]


def regional_means(view: View, part: Tensor, apart: Contributions, mask: Tensor) -> list[float]:
    """Mean of a contribution inside a mask (H×W bool), on its outline, and around it.

    Only pixels that the contribution reaches count; NaN where there is none.
    """
    height, width = mask.shape
    lens = Lens(view.subject.image, (0.0, float(width), 0.0, float(height)), width)
    values = lens.sample(part.numpy(), view.in_image(apart.whole.extent))
    outline = laplacian_boundary(mask, frame="constant").numpy()
    inside = mask.numpy() & ~outline
    reached = ~np.isnan(values)
    regions = (inside & reached, outline & reached, reached & ~mask.numpy())
    return [float(values[region].mean()) if region.any() else math.nan for region in regions]


def _weight(apart: Contributions, basis: int) -> str:
    share = f"makes up {apart.shares[basis]:.0%} of all that the bases contribute here"
    if apart.whole.weights is None:
        return f"{share}."
    mean = float(apart.whole.weights[basis].mean())
    if apart.whole.weights.shape[1] > 1:
        return f"gets {mean:.0%} of the attention and {share}, in absolute values."
    return f"has the coefficient {mean:+.2f} and {share}."


def _places(view: View, instance: int, apart: Contributions, basis: int) -> str:
    k = int(view.objects[instance])
    known = k >= 0
    mask = view.subject.truth.masks[k] if known else view.explanation.instances.masks[instance]
    where = "true object" if known else "mask"
    own = regional_means(view, apart.parts[basis], apart, mask)
    total = regional_means(view, apart.whole.logits, apart, mask)
    inside, outline, around = (
        "nothing (no pixel)" if math.isnan(a) else f"{a:+.2f} of {b:+.1f}"
        for a, b in zip(own, total, strict=True)
    )
    text = (
        f"To the mask's logits (a pixel is in where they reach 0) it adds, in the mean, {outline} "
        f"on the outline of the {where}, {inside} inside, {around} around it."
    )
    return text.replace("-", "−")


def _change(effect: Effect) -> str:
    pixels = f"{effect.changed} of {effect.pixels} pixels change, +{effect.gained} −{effect.lost}"
    if math.isnan(effect.iou[0]):
        return pixels
    (iou, new_iou), (dice, new_dice) = effect.iou, effect.dice
    return f"{pixels}; IoU {iou:.3f} → {new_iou:.3f}, boundary Dice {dice:.3f} → {new_dice:.3f}"
