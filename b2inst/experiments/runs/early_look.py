"""A look at a run while it trains: how good is it on the validation split?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from b2inst.data import CocoIndex
from b2inst.evaluation import Metrics, evaluate, read_predictions, write_predictions
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.models import Segmenter
from b2inst.ops.distributed import from_first

_METRICS = ("AP", "boundary_AP")
_IMAGES = 100


def looked_at(index: CocoIndex) -> CocoIndex:
    """The images of a split that are looked at: all, or 100 evenly spaced ones.

    Raises:
        DataError: they have no instances.
    """
    images, n = index.images, min(len(index), _IMAGES)
    return index.subset(images[i * len(images) // n].id for i in range(n)).require_instances()


def early_look(spec: RunSpec, index: CocoIndex, *, batch: int) -> Callable[[Segmenter], Metrics]:
    """A function that gives a model's mask AP and boundary AP, as a run's evaluation does.

    Args:
        index: of the images it looks at.
        batch: images predicted together.
    """

    def look(model: Segmenter) -> Metrics:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # ``check_plan`` has said that there are more objects than detections that count.
            warnings.filterwarnings("ignore", message=".* objects of a category: not all can be")
            path = Path(folder) / "predictions.jsonl.gz"
            write_predictions(model, index, path, batch_size=batch, progress=False)
            metrics = from_first(
                lambda: evaluate(
                    read_predictions(path),
                    index,
                    max_detections=spec.max_detections,
                    boundary_pixels=spec.data.boundary_pixels,
                )
            )
        return {name: metrics[name] for name in _METRICS}

    return look
