"""What a model's ``predict`` returns for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from b2inst.structures import Instances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 5  # instances that the repr names


class MissingPackageError(ImportError):
    """A package that only some users need is not installed."""


@dataclass(repr=False, kw_only=True)
class Result(Instances):
    """Instances of one image that can be drawn and handed on to other tools.

    A result holds the image, not a copy of it; ``result[result.scores > 0.5]`` selects instances.
    """

    image: np.ndarray  #: H×W×3 uint8 RGB, as it was given
    category_ids: tuple[int, ...] = ()  #: the data set's id of each label, where they are known

    @classmethod
    def of(
        cls, instances: Instances, image: np.ndarray, category_ids: tuple[int, ...] = ()
    ) -> Self:
        """The same instances, with the image that they were found in."""
        return cls(**vars(instances), image=image, category_ids=category_ids)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        listed = list(zip(self.names, self.scores.tolist(), strict=True))
        named = [f"{name} {score:.2f}" for name, score in listed[:_NAMED]]
        if len(listed) > _NAMED:
            named.append(f"{len(listed) - _NAMED} more")
        what = "instance" if len(listed) == 1 else "instances"
        end = f": {', '.join(named)}" if named else ""
        return f"<{len(listed)} {what} in {height}×{width} pixels{end}>"

    def plot(self, *, score_threshold: float = 0.3, captions: bool = True) -> Figure:
        """The image with its instances, as a figure that notebooks show.

        Its axes are in pixels of the image, so more can be drawn into ``figure.axes[0]``;
        ``figure.savefig("found.png")`` writes a file.

        Args:
            score_threshold: instances with a lower ranking score are left out.
            captions: whether to draw boxes with class name and score.
        """
        from b2inst.viz.draw import draw_instances
        from b2inst.viz.picture import picture_figure

        drawn = draw_instances(self.image, self, score_threshold=score_threshold, captions=captions)
        return picture_figure(drawn, size=self.image.shape[:2])

    def to_coco(
        self, image_id: int = 1, *, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO results, a dictionary an instance, ready for ``json.dump`` and COCO's evaluators.

        They have ``image_id``, ``category_id``, ``score`` (and ``class_score``, ``iou_score``,
        ``boundary_score``, where predicted), ``bbox`` (x y w h) and ``segmentation`` (compressed
        run-length code).

        Args:
            image_id: COCO's id of the image.
            category_ids: id of each label (default: those of the data that the model was trained
                on, else 1, 2, …).

        Raises:
            EvaluationError: a label without category, or a number that is not finite.
        """
        from b2inst.evaluation.predictions import to_records

        known = self.category_ids if category_ids is None else category_ids
        count = int(self.labels.max()) + 1 if len(self) else 0
        return to_records(image_id, self, known or range(1, count + 1))

    def to_supervision(self) -> Any:
        """``supervision.Detections``: boxes, masks, labels, and the ranking score as confidence.

        Their ``data`` hold ``class_name`` and the scores ``class_score``, ``iou_score``,
        ``boundary_score``, where predicted.

        Raises:
            MissingPackageError: the package ``supervision`` is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise MissingPackageError(
                f"to_supervision needs a package that cannot be imported ({error}): "
                "pip install supervision"
            ) from error
        scores = {
            "class_score": self.class_scores,
            "iou_score": self.iou_scores,
            "boundary_score": self.boundary_scores,
        }
        return Detections(
            xyxy=self.boxes.cpu().numpy(),
            mask=self.masks.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.labels.cpu().numpy(),
            data={"class_name": np.array(self.names, dtype=str)}
            | {name: value.cpu().numpy() for name, value in scores.items() if value is not None},
        )
