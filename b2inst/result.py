"""What a model's ``predict`` returns for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from b2inst.structures import Instances

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(eq=False, repr=False, kw_only=True)
class Result(Instances):
    """Predicted instances of one image, with the image (not a copy) and conversions to other tools.

    Select instances with a mask or an index: ``result[result.scores > 0.5]``.
    """

    image: np.ndarray  #: H×W×3 uint8 RGB, the original
    category_ids: tuple[int, ...] = ()  #: the data set's id of each label, if known

    @classmethod
    def of(
        cls, instances: Instances, image: np.ndarray, category_ids: tuple[int, ...] = ()
    ) -> Self:
        """Create a result from the instances of an image."""
        return cls(**vars(instances), image=image, category_ids=category_ids)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"<{len(self)} instances in {height}×{width} pixels>"

    def plot(self, *, score_threshold: float = 0.3, captions: bool = True) -> Figure:
        """Draw the instances on the image.

        Args:
            score_threshold: Minimum ranking score of the instances that are drawn.
            captions: Draw boxes with class names and scores, unless there are more than 50
                instances.

        Returns:
            A figure; the coordinates of ``figure.axes[0]`` are pixels of the image.
        """
        from b2inst.viz.draw import draw_instances
        from b2inst.viz.figure import picture_figure

        drawn = draw_instances(self.image, self, score_threshold=score_threshold, captions=captions)
        return picture_figure(drawn, size=self.image.shape[:2])

    def to_coco(
        self, image_id: int = 1, *, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Convert the instances to COCO results, one dictionary per instance.

        Args:
            image_id: COCO id of the image.
            category_ids: Category id of each label (default: those of the training data if known,
                else 1, 2, …).

        Returns:
            Dictionaries with ``image_id``, ``category_id``, ``score`` (and ``class_score``,
            ``iou_score``, ``boundary_score``, if predicted), ``bbox`` (x y w h) and
            ``segmentation`` (compressed run-length code), ready for ``json.dump``.

        Raises:
            EvaluationError: A label has no category, or a number is not finite.
        """
        from b2inst.evaluation.predictions import to_records

        known = self.category_ids if category_ids is None else category_ids
        count = int(self.labels.max()) + 1 if len(self) else 0
        return to_records(image_id, self, list(known) or range(1, count + 1))

    def to_supervision(self) -> Any:
        """Convert the instances to ``supervision.Detections``; confidences are the ranking scores.

        ``data`` contains class names and the other scores, if predicted.

        Raises:
            ImportError: The package ``supervision`` is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ImportError(f"{error}: pip install supervision") from error
        names = ("class_score", "iou_score", "boundary_score")
        scores = {name: getattr(self, f"{name}s") for name in names}
        return Detections(
            xyxy=self.boxes.cpu().numpy(),
            mask=self.masks.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.labels.cpu().numpy(),
            data={"class_name": np.array(self.names, dtype=str)}
            | {name: value.cpu().numpy() for name, value in scores.items() if value is not None},
        )
