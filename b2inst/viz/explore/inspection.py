"""A model before an image: what it found there, and what it would find with other bases."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from b2inst.evaluation import evaluate, to_records
from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.segmenter import Explanation
from b2inst.modules.boundary_basis import BoundaryBasis
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import covered, encode_rle
from b2inst.ops.quality import boundary_dice, mask_iou
from b2inst.structures import Instances, Masks
from b2inst.viz.explore.composition import (
    Extent,
    Logits,
    basis_weights,
    contributions,
    is_gated,
    refine,
    scaled,
    steps_of,
    without,
)
from b2inst.viz.explore.sources import Sample, Samples

_STRONG = 0.4  # class score
_FOUND = 0.5  # mask IoU with an object


@dataclass(frozen=True)
class Rated:
    """N masks, of an image's instances or of one's refinement, and how good they are."""

    masks: Tensor  #: N×H×W bool
    iou: Tensor  #: N, with the object; NaN where there is none
    dice: Tensor  #: N, boundary Dice (Eq. 1), the same

    @property
    def quality(self) -> Tensor:
        """√(IoU · boundary Dice), what Eq. 2 predicts, N."""
        return (self.iou * self.dice).sqrt()

    def text(self, i: int) -> str:
        """IoU and boundary Dice in a line; nothing where there is no object."""
        iou, dice = float(self.iou[i]), float(self.dice[i])
        return "" if np.isnan(iou) else f"IoU {iou:.2f} · Dice {dice:.2f}"


@dataclass(frozen=True, eq=False)
class Inspection:
    """A model and what it made of an image; see ``inspect_image``."""

    model: BasisSegmenter
    sample: Sample
    explanation: Explanation
    frame: tuple[int, int]  #: (height, width) of the image in the network's input
    name: str = "model"  #: what pictures call it

    @property
    def instances(self) -> Instances:
        """As predicted, the best-ranked first."""
        return self.explanation.instances

    @property
    def as_trained(self) -> list[float]:
        """The factors that leave all K bases as they are."""
        return [1.0] * self.explanation.bases.maps.shape[1]

    @property
    def boundary_basis(self) -> int | None:
        """Place of the boundary among the bases; None where it is none of them."""
        is_basis = isinstance(self.model.basis_head, BoundaryBasis)
        return len(self.as_trained) - 1 if is_basis else None

    @property
    def basis_names(self) -> list[str]:
        """K names; the boundary basis, where there is one, is the last."""
        names = [f"basis {k + 1}" for k in range(len(self.as_trained))]
        return names if self.boundary_basis is None else [*names[:-1], "boundary"]

    @cached_property
    def steps(self) -> int:
        """S, of the masks' refinement; 0 where they are not refined."""
        return steps_of(getattr(self.model.assembler, "refinement", None))

    @cached_property
    def gated(self) -> bool:
        """Whether the predicted boundary bounds these steps."""
        predicts = self.explanation.bases.boundary_logits is not None
        return predicts and is_gated(getattr(self.model.assembler, "refinement", None))

    @property
    def refined_by(self) -> str:
        """What texts call that which masks go through once they are composed."""
        return "gate" if self.gated else "refinement"

    @cached_property
    def objects(self) -> Tensor:
        """N int64: the true object, of whatever class, that each mask overlaps most; -1: none."""
        masks, truths = self.instances.masks, self.sample.truth.masks
        if not len(truths) or not len(masks):
            return torch.full((len(masks),), -1)
        best, index = overlaps(masks, truths.bool()).max(1)
        return torch.where(best > 0, index, -1)

    @cached_property
    def trained(self) -> Rated:
        """The masks as they were predicted."""
        return self._rated(self.instances.masks, slice(None))

    @lru_cache(maxsize=4)  # noqa: B019
    @torch.inference_mode()
    def recompose(self, factors: tuple[float, ...]) -> tuple[Instances, Rated]:
        """The instances with each basis times a factor, rated by the scoring head and the truth.

        The boxes, classes and coefficients stay, and so does the order.
        """
        if list(factors) == self.as_trained:
            return self.instances, self.trained
        masks, boxes = self._assembled(slice(None), factors)
        scores = {}
        if self.model.scoring_head is not None:
            preprocessor = self.model.preprocessor
            batch = preprocessor([preprocessor.resized(self.sample.image)])
            logits = self.model.scoring_head(self.model.backbone(batch.images), [boxes], masks)
            scores = {f"{name}_scores": value.sigmoid() for name, value in logits.items()}
        rated = self._rated(self._pasted(masks, slice(None)), slice(None))
        return replace(self.instances, masks=rated.masks, **scores), rated

    @torch.inference_mode()
    def take_apart(self, i: int, factors: Sequence[float]) -> tuple[Logits, Tensor, Tensor | None]:
        """One mask's logits before its refinement, what each basis contributes, and its weight."""
        assembler, *_, coefficients = one = self._one(i)
        return *contributions(*one, factors), basis_weights(assembler, coefficients)

    @torch.inference_mode()
    def switch_off(self, i: int, basis: int) -> Rated:
        """One mask without one basis, the others as they were trained."""
        one = slice(i, i + 1)
        masks, _ = self._assembled(one, without(self.as_trained, basis))
        return self._rated(self._pasted(masks, one), one)

    @torch.inference_mode()
    def refine(self, i: int, factors: Sequence[float]) -> tuple[Rated, Logits]:
        """One mask step by step, with each basis times a factor; see ``composition.refine``."""
        assembler, bases, *rest = self._one(i)
        masks, logits = refine(assembler, scaled(bases, factors), *rest)
        one = slice(i, i + 1)
        return self._rated(self._pasted(masks, one), one), logits

    def in_image(self, extent: Extent) -> Extent:
        """Network-input pixels to pixels of the image."""
        height, width = self.explanation.image.shape[:2]
        x, y = width / self.frame[1], height / self.frame[0]
        return (extent[0] * x, extent[1] * x, extent[2] * y, extent[3] * y)

    def cells(self, height: int, width: int) -> Extent:
        """Where the first cells of the basis grid lie, in pixels of the image."""
        stride = self.explanation.bases.stride
        return self.in_image((0.0, width * stride, 0.0, height * stride))

    def _one(self, i: int) -> tuple[Any, Any, Tensor, Tensor]:
        found, bases = self.explanation.detections, self.explanation.bases
        return self.model.assembler, bases, found.boxes[i], found.coefficients[i]

    def _assembled(self, rows: slice, factors: Sequence[float]) -> tuple[Masks, Tensor]:
        found = self.explanation.detections[rows]
        bases = scaled(self.explanation.bases, factors)
        return self.model.assembler.assemble(bases, [found.boxes], found.coefficients), found.boxes

    def _pasted(self, masks: Masks, rows: slice) -> Tensor:
        """N masks in the image, of as many instances or all of one."""
        height, width = self.explanation.image.shape[:2]
        boxes = self.instances.boxes[rows].expand(len(masks), -1)
        return masks.paste(boxes, (height, width), self.frame)

    def _rated(self, masks: Tensor, rows: slice) -> Rated:
        """The quality of N masks, of as many instances or all of one, with their objects."""
        objects, truths = self.objects[rows].expand(len(masks)), self.sample.truth.masks
        iou = torch.full((len(masks),), torch.nan)
        dice = iou.clone()
        for k in objects.unique().tolist():
            if k >= 0:
                own, truth = objects == k, truths[k].bool()
                top, left, any_of = covered(masks[own].any(0) | truth)
                height, width = any_of.shape
                down, along = slice(top, top + height), slice(left, left + width)
                seen, true = masks[own][:, down, along], truth[down, along]
                iou[own], dice[own] = mask_iou(seen, true), boundary_dice(seen, true)
        return Rated(masks, iou, dice)


@torch.inference_mode()
def inspect_image(model: BasisSegmenter, sample: Sample, *, name: str = "model") -> Inspection:
    """Let a model predict an image, and keep all that the explorer moves.

    Args:
        name: what pictures call the model.
    """
    explanation = model.explain(sample.image)
    _, height, width = model.preprocessor.resized(sample.image).shape
    return Inspection(model, sample, explanation, (height, width), name)


def overlaps(masks: Tensor, others: Tensor) -> Tensor:
    """IoUs of N×H×W and M×H×W bool masks: N×M. As run lengths, since most of them are far apart."""
    codes = encode_rle(others)
    ious = coco_mask.iou(encode_rle(masks), codes, [0] * len(codes))
    return torch.as_tensor(np.asarray(ious)).reshape(len(masks), len(others))


class Example(NamedTuple):
    """An instance, and what its mask gains by the boundary basis, or else by the refinement."""

    inspection: Inspection
    image: int  #: place in the data set
    instance: int  #: place in the inspection
    gain: float  #: of √(IoU · boundary Dice)


def examples(model: BasisSegmenter, samples: Samples, *, candidates: int = 12) -> list[Example]:
    """The objects that are found in the first images, each by its best-ranked instance.

    That is, with a class score of at least 0.4 and a mask IoU of at least 0.5, as it is or without
    the boundary basis; in models that have none, without the refinement.

    Raises:
        ValueError: the model has neither.
    """
    found = []
    for image in range(min(candidates, len(samples))):
        view, seen = inspect_image(model, samples[image]), {-1}
        for i, score in enumerate(view.instances.class_scores.tolist()):
            if score < _STRONG or (k := int(view.objects[i])) in seen:
                continue
            if view.boundary_basis is not None:
                without_it = view.switch_off(i, view.boundary_basis)
            else:
                without_it = view.refine(i, view.as_trained)[0]
            if max(view.trained.iou[i], without_it.iou[0]) >= _FOUND:
                seen.add(k)
                gain = float(view.trained.quality[i] - without_it.quality[0])
                found.append(Example(view, image, i, gain))
    return found


def most_helped(
    model: BasisSegmenter, samples: Samples, *, candidates: int = 12
) -> tuple[int, int, str]:
    """The instance of ``examples`` whose mask gains most by the boundary.

    Returns:
        Its image, its place among the image's instances, and how it was chosen; that also says
        where the boundary helps no mask at all.
    """
    try:
        found = examples(model, samples, candidates=candidates)
    except ValueError:
        return 0, 0, "The masks of this model are made without a boundary basis."
    images = f"the first {min(candidates, len(samples))} images"
    if not found:
        return 0, 0, f"In {images} no object is found."
    view, image, i, gain = max(found, key=lambda example: example.gain)
    part = "boundary basis" if view.boundary_basis is not None else view.refined_by
    where = f"the {len(found)} objects that are found in {images}"
    median = f"{statistics.median(e.gain for e in found):+.3f}".replace("-", "−")
    why = (
        f"of {where}, the one whose mask the {part} helps most. Without it the mask loses "
        f"{gain:.3f} of √(IoU · boundary Dice); the median is {median}."
    )
    if gain <= 0:
        why = f"The {part} helps none of {where}: switched off, it makes no mask worse."
    return image, i, f"It opens at image {image + 1}, instance {i + 1}: {why}"


def basis_frame(view: Inspection, i: int) -> pd.DataFrame:
    """What each basis does to one mask, a line a basis.

    Columns: ``weight`` (mean attention, or the coefficient; where masks are sums), ``share`` of all
    absolute contributions, its mean contribution to the logits ``inside`` the true object (or the
    mask, where none is known), on its ``outline`` and ``around`` it, and what becomes of the mask
    when the basis is switched off: ``pixels`` that change, ``IoU`` and ``Dice``.
    """
    whole, parts, weights = view.take_apart(i, view.as_trained)
    k, own = int(view.objects[i]), view.instances.masks[i]
    mask = own if k < 0 else view.sample.truth.masks[k].bool()
    outline = laplacian_boundary(mask, frame="constant")
    regions = {"inside": mask & ~outline, "outline": outline, "around": ~mask}
    left, right, top, bottom = view.in_image(whole.extent)
    y, x = (  # the pixel under the centre of each row and column of cells
        (first + (torch.arange(n) + 0.5) * (last - first) / n).long().clamp(0, size - 1)
        for n, first, last, size in zip(
            parts.shape[1:], (top, left), (bottom, right), mask.shape, strict=True
        )
    )
    lines = {} if weights is None else {"weight": weights.mean((1, 2))}
    sizes = parts.abs().mean((1, 2))
    lines["share"] = sizes / sizes.sum().clamp(min=1e-12)
    lines |= {name: parts[:, region[y][:, x]].mean(1) for name, region in regions.items()}
    off = [view.switch_off(i, basis) for basis in range(len(parts))]
    lines["pixels"] = torch.stack([(rated.masks[0] != own).sum() for rated in off])
    lines["IoU"] = torch.cat([rated.iou for rated in off])
    lines["Dice"] = torch.cat([rated.dice for rated in off])
    frame = pd.DataFrame({name: values.numpy() for name, values in lines.items()})
    return frame.set_index(pd.Index(view.basis_names, name="basis"))


#: What Eq. 2 calls the factors of the ranking score.
SCORES = {"class": "S_class", "iou": "S_IoU", "boundary": "S_boundary"}
#: The exponents of Eq. 2 by factor, a key of ``SCORES``.
Exponents = Mapping[str, float]


def score_factors(instances: Instances) -> dict[str, Tensor]:
    """What the ranking score is a product of, N each in [0, 1]; those that are predicted."""
    found = {name: getattr(instances, f"{name}_scores") for name in SCORES}
    return {name: values for name, values in found.items() if values is not None}


def paper_exponents(instances: Instances) -> dict[str, float]:
    """Those of Eq. 2: S_class to 1, the qualities by their geometric mean."""
    qualities = [name for name in score_factors(instances) if name != "class"]
    return {"class": 1.0} | {name: 1 / len(qualities) for name in qualities}


def ranking_score(instances: Instances, exponents: Exponents) -> Tensor:
    """S_class^a · S_IoU^b · S_boundary^c, N; an exponent of 0 leaves a factor out."""
    factors = score_factors(instances).items()
    return torch.stack([values ** exponents[name] for name, values in factors]).prod(0)


def image_ap(
    view: Inspection, instances: Instances, exponents: Exponents
) -> dict[str, float] | None:
    """``AP`` and ``boundary_AP`` of this one image in percent, by COCO's rules.

    Returns:
        None where they cannot be measured: no object is known, or the classes are not the model's.
    """
    content, known = view.sample.annotations, view.model.class_names
    if content is None or not content["annotations"]:
        return None
    if known is not None and list(known) != [c["name"] for c in content["categories"]]:
        return None
    ranked = replace(instances, scores=ranking_score(instances, exponents).clamp(0, 1))
    ids = [category["id"] for category in content["categories"]]
    records = to_records(content["images"][0]["id"], ranked, ids)
    metrics = evaluate(records, content, max_detections=view.model.max_detections)
    return {name: metrics[name] or 0.0 for name in ("AP", "boundary_AP")}


def ranking_frame(
    view: Inspection, factors: tuple[float, ...], exponents: Exponents
) -> pd.DataFrame:
    """A line an instance, with each basis times a factor; the best-ranked first.

    The index ``instance`` is its rank as trained. Columns: ``rank``, ``class``, ``S_class``,
    ``S_IoU`` and ``S_boundary`` (where predicted), ``S`` (the ranking score), and, of the object
    that it overlaps most, ``object`` (its class), ``IoU`` and ``Dice``.
    """
    (instances, rated), names = view.recompose(factors), view.sample.truth.names
    columns = {
        "class": instances.names,
        **{SCORES[name]: values.numpy() for name, values in score_factors(instances).items()},
        "S": ranking_score(instances, exponents).numpy(),
        "object": ["–" if k < 0 else names[k] for k in view.objects.tolist()],
        "IoU": rated.iou.numpy(),
        "Dice": rated.dice.numpy(),
    }
    index = pd.RangeIndex(1, len(instances) + 1, name="instance")
    frame = pd.DataFrame(columns, index=index)
    frame.insert(0, "rank", frame["S"].rank(ascending=False, method="first").astype(int))
    return frame.sort_values("rank")
