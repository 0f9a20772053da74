"""Images to time models on, and the time of a prediction by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import masks_to_boxes

from b2inst.data import CocoIndex, make_scene, read_image
from b2inst.data.images import as_array
from b2inst.models import Segmenter
from b2inst.ops.masks import encode_rle
from b2inst.structures import Detections, ImageBatch

#: In order. "input" is resizing and normalising, "heads" ends with non-maximum suppression,
#: "paste" makes full-size masks, "RLE" encodes them.
STAGES = ("input", "backbone", "heads", "bases", "assembly", "scoring", "paste", "RLE")

#: Stage, attribute of a segmenter (if it has it) and method of that part.
_CALLS = (
    ("backbone", "backbone", "forward"),
    ("heads", "instance_head", "forward"),
    ("heads", "instance_head", "detect"),
    ("heads", "detector", "detect"),
    ("bases", "basis_head", "forward"),
    ("assembly", "assembler", "assemble"),
    ("assembly", "mask_head", "forward"),
    ("scoring", "scoring_head", "forward"),
)


#: (height, width) of COCO's most common images, with their frequencies among twelve.
_COCO_SIZES = ((480, 640),) * 5 + ((427, 640),) * 3 + ((640, 480),) * 2 + ((640, 427), (375, 500))


@dataclass(frozen=True)
class Sample:
    """An image and the boxes of its objects."""

    image: NDArray[np.uint8]  #: H×W×3 RGB
    boxes: NDArray[np.float32]  #: N×4, x1 y1 x2 y2 in pixels


def index_samples(index: CocoIndex, count: int) -> list[Sample]:
    """Load evenly spaced images of a split; some are repeated if it has fewer than ``count``."""
    samples = []
    for i in np.linspace(0, len(index), count, endpoint=False).astype(int):
        record = index.images[i]
        boxes = [a.box for a in index.annotations[record.id] if not a.crowd]
        array = np.array(boxes, np.float32).reshape(-1, 4)
        samples.append(Sample(as_array(read_image(record.path)), array))
    return samples


def composed_samples(count: int, *, seed: int = 0) -> list[Sample]:
    """Compose images of COCO's most common sizes, with objects of its sizes, from scenes."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        height, width = _COCO_SIZES[int(rng.integers(len(_COCO_SIZES)))]
        side = min(height, width) // int(rng.integers(1, 4))
        image = np.zeros((height, width, 3), np.uint8)
        boxes = []
        for number, (row, column) in enumerate(np.ndindex(-(-height // side), -(-width // side))):
            scene = make_scene((seed, i, number), side)
            y, x = row * side, column * side
            image[y : y + side, x : x + side] = scene.image[: height - y, : width - x]
            masks = scene.masks[:, : height - y, : width - x]
            visible = torch.from_numpy(masks[masks.any((1, 2))])
            boxes.append(masks_to_boxes(visible).numpy() + np.array([x, y, x + 1, y + 1]))
        samples.append(Sample(image, np.concatenate(boxes).astype(np.float32)))
    return samples


class DummyDetections:
    """Give an untrained model as many detections as a trained one, at the objects of the image.

    The head does all its work: its score threshold is set so that ``count`` detections of the first
    image pass. Their boxes, which are random, are then replaced by those of the image's objects,
    each several times and slightly shifted. The model is modified.
    """

    def __init__(self, model: Segmenter, count: int) -> None:
        self.count = count
        self.sample: Sample | None = None  #: the image that is predicted next
        head = "detector" if hasattr(model, "detector") else "instance_head"
        self._head: Any = getattr(model, head)
        self._detect = self._head.detect
        self._head.detect = self._replaced
        self._calibrated = False
        self._network_size = (1, 1)
        model.preprocessor.register_forward_hook(self._record_size)

    def _record_size(self, _module: Any, _images: Any, batch: ImageBatch) -> None:
        (self._network_size,) = batch.sizes

    def _replaced(self, *outputs: Any) -> list[Detections]:
        if not self._calibrated:
            # The highest score threshold that ``count`` detections pass, to within a fifth.
            for threshold in np.geomspace(1, 1e-9, 91)[1:]:
                self._head.score_threshold = float(threshold)
                if len(self._detect(*outputs)[0]) >= self.count:
                    break
            self._calibrated = True
        (found,) = self._detect(*outputs)
        count = self.count if len(found) else 0
        dummies = found[torch.arange(count, device=found.boxes.device) % max(len(found), 1)]
        dummies.boxes = self._boxes()[:count].to(found.boxes)
        return [dummies]

    def _boxes(self) -> Tensor:
        """Boxes in network-input pixels, the same for all models, count×4."""
        assert self.sample is not None
        height, width = self.sample.image.shape[:2]
        boxes = self.sample.boxes[np.arange(self.count) % len(self.sample.boxes)]
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        shift = 0.1 * sides * np.random.default_rng(0).uniform(-1, 1, boxes.shape)
        scale = np.array([self._network_size[1] / width, self._network_size[0] / height])
        return torch.from_numpy(((boxes + shift) * np.tile(scale, 2)).astype(np.float32))


def finished_at() -> float:
    """Seconds on a clock, when a GPU, if one is used, has finished too."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class Timing(NamedTuple):
    """What one prediction took."""

    seconds: dict[str, float]  #: by stage of ``STAGES``
    detections: int
    network_size: tuple[int, int]  #: (height, width) of the padded image in the network

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class TimedModel:
    """Time a model's predictions by stage, from the image to the run-length codes of its masks.

    A stage ends when its part returns; the time between two parts belongs to the later one, so the
    stages add up to the total. The model is modified.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        dummies: DummyDetections | None = None,
        clock: Callable[[], float] = finished_at,
    ) -> None:
        self.model, self.dummies, self._clock = model, dummies, clock
        self._seconds: dict[str, float] = {}
        self._last = 0.0
        self._network_size = (0, 0)
        for stage, part, method in _CALLS:
            if (owner := getattr(model, part, None)) is not None:
                setattr(owner, method, self._timed(getattr(owner, method), stage))
        model.backbone.register_forward_pre_hook(self._begin_backbone)

    def predict(self, sample: Sample) -> Timing:
        if self.dummies is not None:
            self.dummies.sample = sample
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._last = self._clock()
        (found,) = self.model.predict([sample.image])
        self._lap("paste")
        encode_rle(found.masks)
        self._lap("RLE")
        return Timing(self._seconds, len(found), self._network_size)

    def _begin_backbone(self, _module: Any, inputs: Any) -> None:
        self._lap("input")
        self._network_size = tuple(inputs[0].shape[-2:])

    def _lap(self, stage: str) -> None:
        now = self._clock()
        self._seconds[stage] += now - self._last
        self._last = now

    def _timed(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            self._lap(stage)
            return result

        return timed
