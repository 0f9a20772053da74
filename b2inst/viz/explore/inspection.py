"""What a model predicts for an image, and what it would predict with other bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from b2inst.data.wording import counted
from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.segmenter import Explanation
from b2inst.modules.boundary_basis import BoundaryBasis
from b2inst.ops.masks import covered
from b2inst.ops.quality import boundary_dice, mask_iou
from b2inst.structures import Instances
from b2inst.viz.explore import composition
from b2inst.viz.explore.composition import Extent, Logits, refinement_steps, without
from b2inst.viz.explore.sources import Sample, Samples
from b2inst.viz.qualitative import overlapped_most

#: The factors of the ranking score (Eq. 2).
SCORES = {"class": "S_class", "iou": "S_IoU", "boundary": "S_boundary"}

_CLASS_SCORE = 0.4  # of instances that are examples
_IOU = 0.5  # of a mask with an object that it detects
_SEARCHED = 12  # images


@dataclass(frozen=True)
class RatedMasks:
    """N masks, or all steps of one, with their quality; NaN where they overlap no object."""

    masks: Tensor  #: N×H×W bool
    iou: Tensor  #: N
    dice: Tensor  #: N, boundary Dice (Eq. 1)

    @property
    def quality(self) -> Tensor:
        """√(IoU · boundary Dice), what Eq. 2 predicts, N."""
        return (self.iou * self.dice).sqrt()

    def text(self, i: int) -> str:
        """IoU and boundary Dice of a mask; empty without an object."""
        known = not self.iou[i].isnan()
        return f"IoU {self.iou[i]:.2f} · Dice {self.dice[i]:.2f}" if known else ""


@dataclass(frozen=True, eq=False)
class Inspection:
    """A model's prediction for an image; see :func:`inspect_image`."""

    model: BasisSegmenter
    sample: Sample
    explanation: Explanation
    objects: Tensor  #: N int64: object, of whatever class, that each mask overlaps most, or -1
    frame: tuple[int, int]  #: (height, width) of the image in the network's input
    name: str = "model"

    @property
    def instances(self) -> Instances:
        """Instances as predicted, best-ranked first."""
        return self.explanation.instances

    @property
    def as_trained(self) -> list[float]:
        """The factors 1 of all K bases."""
        return [1.0] * self.explanation.bases.maps.shape[1]

    @property
    def boundary_basis(self) -> int | None:
        """Index of the boundary among the bases, the last, if it is one."""
        is_basis = isinstance(self.model.basis_head, BoundaryBasis)
        return len(self.as_trained) - 1 if is_basis else None

    @property
    def basis_names(self) -> list[str]:
        count = len(self.as_trained)
        return ["boundary" if k == self.boundary_basis else f"basis {k + 1}" for k in range(count)]

    @cached_property
    def steps(self) -> int:
        """Number of steps of the masks' refinement, such as the gate; 0 if there is none."""
        return refinement_steps(self.model.assembler)

    @cached_property
    def rated(self) -> RatedMasks:
        return self._rated(self.instances.masks, self.objects)

    @torch.inference_mode()
    def refine(self, i: int, factors: Sequence[float]) -> tuple[RatedMasks, Logits]:
        """Compute one mask, with each basis times a factor, as composed and after each step."""
        soft, logits = composition.refine(*self._parts(i), factors)
        boxes = self.instances.boxes[i].expand(len(soft), -1)
        height, width = self.explanation.image.shape[:2]
        masks = soft.paste(boxes, (height, width), self.frame)
        return self._rated(masks, self.objects[i].expand(len(masks))), logits

    @torch.inference_mode()
    def take_apart(self, i: int, factors: Sequence[float]) -> tuple[Logits, Tensor, Tensor | None]:
        """Compute one mask's logits, the contributions of the bases, and their weights."""
        assembler, *_, coefficients = parts = self._parts(i)
        weights = composition.basis_weights(assembler, coefficients)
        return *composition.contributions(*parts, factors), weights

    def in_image(self, extent: Extent) -> Extent:
        """Convert network-input pixels to pixels of the image."""
        height, width = self.explanation.image.shape[:2]
        x, y = width / self.frame[1], height / self.frame[0]
        return (extent[0] * x, extent[1] * x, extent[2] * y, extent[3] * y)

    def cells(self, height: int, width: int) -> Extent:
        """Locate the first cells of the basis grid in pixels of the image."""
        stride = self.explanation.bases.stride
        return self.in_image((0.0, width * stride, 0.0, height * stride))

    def _parts(self, i: int) -> tuple[Any, Any, Tensor, Tensor]:
        found, bases = self.explanation.detections, self.explanation.bases
        return self.model.assembler, bases, found.boxes[i], found.coefficients[i]

    def _rated(self, masks: Tensor, objects: Tensor) -> RatedMasks:
        """The quality of N masks with an object each."""
        rated = RatedMasks(masks, *torch.full((2, len(masks)), torch.nan))
        for n in (objects >= 0).nonzero()[:, 0].tolist():
            truth = self.sample.truth.masks[objects[n]]
            top, left, union = covered(masks[n] | truth)  # where they are, for speed
            window = (slice(top, top + union.shape[0]), slice(left, left + union.shape[1]))
            pair = masks[n][window], truth[window]
            rated.iou[n], rated.dice[n] = mask_iou(*pair), boundary_dice(*pair)
        return rated


@torch.inference_mode()
def inspect_image(model: BasisSegmenter, sample: Sample, *, name: str = "model") -> Inspection:
    """Predict an image and keep what the explorer needs.

    Args:
        model: Model in evaluation mode.
        sample: Image.
        name: Name of the model in figures.
    """
    explanation = model.explain(sample.image)
    _, height, width = model.preprocessor.resized(sample.image).shape
    objects = overlapped_most(explanation.instances.masks, sample.truth.masks)
    return Inspection(model, sample, explanation, objects, (height, width), name)


class Example(NamedTuple):
    """A found object, and what its mask gains by the boundary basis or by the refinement."""

    view: Inspection
    image: int  #: index of the image
    instance: int  #: index of the instance
    gain: float  #: in √(IoU · boundary Dice)


def examples(
    model: BasisSegmenter, samples: Samples, *, candidates: int = _SEARCHED
) -> list[Example]:
    """Find the objects of the first images, and what their masks gain by the boundary.

    Of each object, the best-ranked instance counts that has a class score of at least 0.4, and a
    mask IoU of at least 0.5 with or without the boundary basis (or without the refinement, in
    models that have no boundary basis).

    Args:
        model: Model in evaluation mode.
        samples: Images with their objects.
        candidates: Number of images that are searched.
    """
    found = []
    for image in range(min(candidates, len(samples))):
        view, seen = inspect_image(model, samples[image]), {-1}
        for i, score in enumerate(view.instances.class_scores.tolist()):
            if score < _CLASS_SCORE or (k := int(view.objects[i])) in seen:
                continue
            basis = view.boundary_basis
            trained = view.as_trained
            before, _ = view.refine(i, trained if basis is None else without(trained, basis))
            step = 0 if basis is None else -1
            if max(view.rated.iou[i], before.iou[step]) >= _IOU:
                seen.add(k)
                gain = float(view.rated.quality[i] - before.quality[step])
                found.append(Example(view, image, i, gain))
    return found


def most_helped(model: BasisSegmenter, samples: Samples) -> tuple[int, int, str]:
    """Find the instance of :func:`examples` whose mask gains most.

    Returns:
        Index of the image, index of the instance, and how it was chosen.
    """
    if not isinstance(model.basis_head, BoundaryBasis) and not refinement_steps(model.assembler):
        return 0, 0, "The masks of this model are made without a boundary basis."
    found = examples(model, samples)
    images = f"the first {counted(min(_SEARCHED, len(samples)), 'image')}"
    if not found:
        return 0, 0, f"No object is found in {images}."
    view, image, i, gain = max(found, key=lambda example: example.gain)
    part = "boundary basis" if view.boundary_basis is not None else "refinement"
    reason = (
        f"Image {image + 1}, instance {i + 1}: of the objects that are found in {images} "
        f"({len(found)}), the one whose mask gains most by the {part}: {gain:+.3f} in "
        "√(IoU · boundary Dice)."
    )
    return image, i, reason


def basis_frame(view: Inspection, i: int) -> pd.DataFrame:
    """Summarise what each basis does to one mask, a line per basis.

    Columns: ``weight`` (mean attention, or the coefficient, if masks are sums), ``share`` of all
    absolute contributions, and, if the basis is switched off, the number of ``pixels`` that
    change, ``IoU`` and ``Dice``.
    """
    _, parts, weights = view.take_apart(i, view.as_trained)
    sizes = parts.abs().mean((1, 2))
    off = [view.refine(i, without(view.as_trained, k))[0] for k in range(len(parts))]
    columns = {
        "share": (sizes / sizes.sum().clamp(min=1e-12)).numpy(),
        "pixels": [int((one.masks[-1] != view.instances.masks[i]).sum()) for one in off],
        "IoU": [float(one.iou[-1]) for one in off],
        "Dice": [float(one.dice[-1]) for one in off],
    }
    frame = pd.DataFrame(columns, pd.Index(view.basis_names, name="basis"))
    if weights is not None:
        frame.insert(0, "weight", weights.mean((1, 2)).numpy())
    return frame


def _score_factors(instances: Instances) -> dict[str, Tensor]:
    found = {name: getattr(instances, f"{name}_scores") for name in SCORES}
    return {name: values for name, values in found.items() if values is not None}


def paper_exponents(instances: Instances) -> dict[str, float]:
    """The exponents of Eq. 2: 1 for S_class, and the geometric mean of the predicted qualities."""
    qualities = [name for name in _score_factors(instances) if name != "class"]
    return {"class": 1.0} | {name: 1 / len(qualities) for name in qualities}


def ranking_frame(view: Inspection, exponents: Mapping[str, float]) -> pd.DataFrame:
    """Rank the instances by S_class^a · S_IoU^b · S_boundary^c, a line per instance, best first.

    The index ``instance`` is the rank with the paper's exponents. Columns: ``rank``, ``class``,
    ``S_class``, ``S_IoU`` and ``S_boundary`` (if predicted), ``S`` (the ranking score), and, of the
    object that the mask overlaps most, ``object`` (its class), ``IoU`` and ``Dice``.
    """
    instances, names = view.instances, view.sample.truth.names
    factors = _score_factors(instances)
    powers = [values ** exponents[name] for name, values in factors.items()]
    columns = {
        "class": instances.names,
        **{SCORES[name]: values.numpy() for name, values in factors.items()},
        "S": torch.stack(powers).prod(0).numpy(),
        "object": ["–" if k < 0 else names[k] for k in view.objects.tolist()],
        "IoU": view.rated.iou.numpy(),
        "Dice": view.rated.dice.numpy(),
    }
    index = pd.RangeIndex(1, len(instances) + 1, name="instance")
    frame = pd.DataFrame(columns, index=index)
    frame.insert(0, "rank", frame["S"].rank(ascending=False, method="first").astype(int))
    return frame.sort_values("rank")
