"""Crowd regions that look like single objects.

COCO marks a region of many objects with ``iscrowd`` 1; it is neither learned nor evaluated. Some
exporters set 1 for other reasons: datumaro for every mask, supervision for each object with holes
or several pieces. Such objects are lost unless they are read as instances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from b2inst.data.records import Annotation

#: COCO has 1 to 2 % crowds. A larger share that coincides with run lengths is an exporter's.
_SUSPICIOUS_SHARE = 0.05

_REMEDY = "crowds are not learned; if these are single objects, use --crowds-as-instances"


def crowd_notes(annotations: Iterable[Annotation], class_names: Sequence[str]) -> list[str]:
    """A line for each class of crowds only, and one if an exporter's habit is recognised."""
    crowds: Counter[int] = Counter()
    instances: Counter[int] = Counter()
    unusual = 0  # crowds as polygons, or instances as run lengths
    for annotation in annotations:
        (crowds if annotation.crowd else instances)[annotation.label] += 1
        unusual += annotation.crowd == isinstance(annotation.segmentation, list)
    if not instances:  # told as the reason why there is nothing to learn
        return []
    lines = [
        f"all annotations of class {class_names[label]!r} ({count}) have iscrowd 1; {_REMEDY}"
        for label, count in sorted(crowds.items())
        if not instances[label]
    ]
    total = crowds.total() + instances.total()
    if not unusual and crowds.total() > _SUSPICIOUS_SHARE * total:
        counts = ", ".join(f"{class_names[k]} {n}" for k, n in sorted(crowds.items()))
        lines.append(
            f"{crowds.total()} of {total} annotations have iscrowd 1, all run lengths and no "
            "polygon, as some exporters write single objects with holes or several pieces "
            f"({counts}); {_REMEDY}"
        )
    return lines
