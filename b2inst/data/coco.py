"""A split of a COCO-format data set: its images and their annotations, checked."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from b2inst.data.coco_reader import CocoReader
from b2inst.data.images import ImageRecord
from b2inst.data.segmentation import Annotation
from b2inst.data.wording import DataError, counted

_EMPTY = -1  # in place of a label: an image without objects


@dataclass(frozen=True)
class CocoIndex:
    """A COCO-format split: checked annotations, and where the images are.

    Labels are contiguous and 0-based in ascending order of the file's category ids, which may
    have gaps; ``category_ids[label]`` leads back.
    """

    annotation_file: Path
    image_dir: Path
    images: list[ImageRecord]  #: in the file's order
    annotations: dict[int, list[Annotation]]  #: by image id, in the file's order; maybe empty lists
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    skipped: list[str]  #: a line for each thing that was left out
    notes: list[str]  #: a line for each way in which the file is unusual, with counts
    fingerprint: str  #: sha256 of the annotation file and the images' names and byte sizes

    def __len__(self) -> int:
        return len(self.images)

    @staticmethod
    def load(
        annotations: Path | str | Mapping[str, Any],
        image_dir: Path | str | None = None,
        *,
        annotated: bool = True,
        skip_bad: bool = False,
        crowds_as_instances: bool = False,
    ) -> CocoIndex:
        """Read and check a split. It is checked that images exist, but they are not opened.

        Args:
            annotations: COCO annotation file, or its content.
            image_dir: Folder of the images (default: their existence is not checked).
            annotated: Whether the file must have a list of annotations.
            skip_bad: Leave out what is wrong and list it in ``skipped`` rather than raise.
            crowds_as_instances: Read annotations with ``iscrowd`` 1 as single objects.

        Raises:
            DataError: The file is no COCO annotation file, there is no image folder, or (without
                ``skip_bad``) something in the file is wrong.
        """
        folder = None if image_dir is None else Path(image_dir)
        reader = CocoReader(
            annotations, folder, annotated=annotated, crowds_as_instances=crowds_as_instances
        )
        if reader.problems and not skip_bad:
            first, *others = reader.problems
            more = f" (and {len(others)} more)" if others else ""
            raise DataError(
                f"{first}{more}; correct it (`b2inst data check` lists everything) "
                "or go on with --skip-bad"
            )
        return CocoIndex(
            annotation_file=reader.path,
            image_dir=folder or reader.path.parent,
            images=reader.images,
            annotations=reader.annotations,
            class_names=tuple(reader.names.values()),
            category_ids=tuple(reader.names),
            skipped=reader.problems,
            notes=reader.notes(),
            fingerprint=reader.digest.hexdigest(),
        )

    def all_annotations(self) -> Iterator[Annotation]:
        """The annotations of all images, crowds included."""
        return (annotation for image in self.images for annotation in self.annotations[image.id])

    def class_counts(self) -> dict[str, int]:
        """Instances by class, in label order; the names have ids where they are not unique."""
        counts = Counter(a.label for a in self.all_annotations() if not a.crowd)
        named = zip(self.class_names, self.category_ids, strict=True)
        return {
            f"{name} (id {number})" if self.class_names.count(name) > 1 else name: counts[label]
            for label, (name, number) in enumerate(named)
        }

    def annotated(self) -> CocoIndex:
        """Only the images that have an instance (crowds do not count), as papers train on."""
        found = self.annotations.items()
        return self.subset(i for i, of_image in found if any(not a.crowd for a in of_image))

    def subset(self, image_ids: Iterable[int]) -> CocoIndex:
        """Only the images of these ids, in the order of the file."""
        wanted = set(image_ids)
        images = [image for image in self.images if image.id in wanted]
        ids = [image.id for image in images]
        fingerprint = hashlib.sha256(f"{self.fingerprint} {ids}".encode()).hexdigest()
        return replace(
            self,
            images=images,
            annotations={image_id: self.annotations[image_id] for image_id in ids},
            fingerprint=fingerprint if len(ids) < len(self) else self.fingerprint,
        )

    def require_instances(self) -> Self:
        """The index itself; DataError with the cause if there is nothing to learn or to find."""
        if any(not annotation.crowd for annotation in self.all_annotations()):
            return self
        if not self.images:
            cause = "no images that can be used"
        elif not any(self.annotations.values()):
            cause = f"{counted(len(self), 'image')} without any instance; annotate some"
        else:
            cause = (
                "no instances, since all annotations have iscrowd 1; if they are single objects, "
                "read them as such with --crowds-as-instances"
            )
        raise DataError(f"{self.annotation_file}: {cause}")

    def to_coco(self) -> dict[str, Any]:
        """The content of an annotation file, with masks as compressed run lengths."""
        images = [
            {
                "id": image.id,
                "file_name": os.path.relpath(image.path, self.image_dir),
                "height": image.height,
                "width": image.width,
            }
            for image in self.images
        ]
        annotations = [
            {
                "id": annotation.id,
                "image_id": image.id,
                "category_id": self.category_ids[annotation.label],
                "segmentation": (code := annotation.rle) | {"counts": code["counts"].decode()},
                "bbox": list(annotation.bbox),
                "area": annotation.area,
                "iscrowd": int(annotation.crowd),
            }
            for image in self.images
            for annotation in self.annotations[image.id]
        ]
        named = zip(self.category_ids, self.class_names, strict=True)
        categories = [{"id": number, "name": name} for number, name in named]
        return {"images": images, "annotations": annotations, "categories": categories}


def hold_out(index: CocoIndex, fraction: float) -> tuple[CocoIndex, CocoIndex]:
    """Split the images in two, each class in the same proportion as far as possible.

    Iterative stratification (Sechidis et al. 2011): the images of the rarest class are assigned
    first; those without objects are one more class, and come last. Nothing is random.

    Args:
        index: Split to divide.
        fraction: Share of the images to hold out, in (0, 1).

    Returns:
        The images to train on and those held out; at least one image in each, and one with objects
        if there are two.

    Raises:
        DataError: There are fewer than two images.
    """
    files: defaultdict[Path, list[int]] = defaultdict(list)  # one may be several images
    for image in index.images:
        files[image.path].append(image.id)
    if len(files) < 2:
        raise DataError(
            f"{index.annotation_file}: {len(files)} image cannot be split by --val-fraction; "
            "annotate more images"
        )
    left = shuffled = sorted(
        files, key=lambda path: hashlib.sha256(f"{path.name} {files[path][0]}".encode()).digest()
    )
    classes = {
        path: {a.label for i in files[path] for a in index.annotations[i] if not a.crowd}
        or {_EMPTY}
        for path in left
    }
    empty = {path for path in left if classes[path] == {_EMPTY}}
    wanted = min(max(round(fraction * len(left)), 1), len(left) - 1)
    missing: defaultdict[int, float] = defaultdict(float)  # images of a class, still to be held out
    for found in classes.values():
        for label in found:
            missing[label] += fraction
    held_out: set[Path] = set()
    while left:
        counts = Counter(label for path in left for label in classes[path])
        rarest = min(counts, key=lambda label: (label == _EMPTY, counts[label], label))
        batch = dict.fromkeys(path for path in left if rarest in classes[path])
        for path in batch:
            if len(held_out) < wanted and missing[rarest] >= 0.5:
                held_out.add(path)
                for label in classes[path]:
                    missing[label] -= 1
        left = [path for path in left if path not in batch]
    rest = defaultdict[frozenset[int], list[Path]](list)
    for path in reversed(shuffled):
        if path not in held_out:
            rest[frozenset(classes[path])].append(path)
    while len(held_out) < wanted:  # rounding class by class may leave too few: what is missed most
        alike = max(filter(rest.get, rest), key=lambda labels: min(missing[k] for k in labels))
        held_out.add(rest[alike].pop())
        for label in alike:
            missing[label] -= 1
    filled = [path for path in shuffled if path not in empty]  # and each part shall have some
    inside = [path for path in filled if path in held_out]
    if len(filled) > 1 and len(inside) in (0, len(filled)):
        swapped = empty - held_out if inside else empty & held_out
        held_out ^= {filled[0], *[path for path in shuffled if path in swapped][:1]}
    ids = {image_id for path in held_out for image_id in files[path]}
    return index.subset(index.annotations.keys() - ids), index.subset(ids)
