"""Holding out images for validation."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from b2inst.data.coco import CocoIndex
from b2inst.data.errors import DataError


def hold_out(index: CocoIndex, fraction: float) -> tuple[CocoIndex, CocoIndex]:
    """Split the images in two, each class in the same proportion as far as possible.

    Iterative stratification (Sechidis et al. 2011): the images of the rarest class are assigned
    first. Nothing is random.

    Args:
        fraction: Share of the images to hold out, in (0, 1).

    Returns:
        The images to train on and those held out; at least one image in each.

    Raises:
        DataError: There are fewer than two images.
    """
    if len(index) < 2:
        raise DataError(
            f"{index.annotation_file}: {len(index)} image cannot be split by --val-fraction; "
            "annotate more images"
        )
    shuffled = sorted(
        index.images, key=lambda i: hashlib.sha256(f"{i.path.name} {i.id}".encode()).digest()
    )
    left = [image.id for image in shuffled]
    classes = {i: {a.label for a in index.annotations[i] if not a.crowd} for i in left}
    wanted = min(max(round(fraction * len(left)), 1), len(left) - 1)
    # How many images of each class, and in all (None), are still to be held out.
    missing: dict[int | None, float] = defaultdict(float)
    for found in classes.values():
        for known in found:
            missing[known] += fraction
    missing[None] = wanted
    held_out: set[int] = set()
    while left:
        counts = Counter(label for image_id in left for label in classes[image_id])
        rarest = min(counts, key=lambda label: (counts[label], label), default=None)
        batch = {i for i in left if rarest is None or rarest in classes[i]}
        for image_id in left:
            if image_id in batch and missing[rarest] >= 0.5 and len(held_out) < wanted:
                held_out.add(image_id)
                for label in (None, *classes[image_id]):
                    missing[label] -= 1
        left = [image_id for image_id in left if image_id not in batch]
    rest = [image.id for image in shuffled if image.id not in held_out]
    held_out.update(rest[: wanted - len(held_out)])  # rounding class by class may leave too few
    return index.subset(set(classes) - held_out), index.subset(held_out)
