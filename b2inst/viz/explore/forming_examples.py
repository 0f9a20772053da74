"""How masks form, at three instances that a rule picks: not only where it does them good."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image

from b2inst.models import BasisSegmenter
from b2inst.viz.explore.forming_sheet import forming_row
from b2inst.viz.explore.subjects import Subjects
from b2inst.viz.explore.tiles import sheet
from b2inst.viz.explore.view import View, look

_STRONG = 0.4  # class score
_FOUND = 0.5  # mask IoU with an object, before or after


@dataclass(frozen=True)
class Change:
    """What all steps together do to the mask of one instance."""

    view: View
    instance: int
    gain: float  #: mask IoU after the last step less that before the first


def changes(model: BasisSegmenter, subjects: Subjects, *, candidates: int = 40) -> list[Change]:
    """Of the objects that are found in the first images, in ascending order of gain.

    Each by its best-ranked instance, if its class score is at least 0.4 and its mask IoU at least
    0.5 either before or after.

    Raises:
        ValueError: the model's masks are not refined.
    """
    found = []
    for i in range(min(candidates, len(subjects))):
        view = look(model, subjects[i])
        seen = {-1}
        for n, score in enumerate(view.explanation.instances.class_scores.tolist()):
            if score < _STRONG or int(view.objects[n]) in seen:
                continue
            formed = view.form(n, [1.0] * view.num_bases)
            before, after = float(formed.iou[0]), float(formed.iou[-1])
            if max(before, after) >= _FOUND:
                seen.add(int(view.objects[n]))
                found.append(Change(view, n, after - before))
    return sorted(found, key=lambda change: change.gain)


def forming_figure(found: list[Change]) -> Image.Image:
    """A row each for the mask that gains most, the median one, and the one that loses most.

    Args:
        found: of ``changes``; at least one.
    """
    places = {"most gained": -1, "median": (len(found) - 1) // 2, "least gained": 0}
    rows = []
    for name, place in places.items():
        change = found[place]
        formed = change.view.form(change.instance, [1.0] * change.view.num_bases)
        row = forming_row(change.view, formed, change.instance)
        _, _, legend = row.label.partition("\n")
        title = f"{name} of {len(found)}"
        rows.append(replace(row, label=f"{title}\nΔ IoU {change.gain:+.3f}\n{legend}"))
    return sheet(rows)
