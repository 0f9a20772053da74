"""What a benchmark gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Speed:
    """One model, one image at a time. Times are medians over the images, in milliseconds."""

    model: str
    options: dict[str, Any]  #: of the builder, where the model was built for the benchmark
    network_size: tuple[int, int]  #: (height, width) that most images have in the network
    detections: float  #: of an image, median
    median_ms: float
    p90_ms: float
    stages_ms: dict[str, float]  #: by the names in ``STAGES``
    parameters: int
    gflops: float  #: of one image, two operations a multiply-add; convolutions and products
    peak_memory_mb: float  #: of tensors beyond the weights, in 10⁶ bytes

    @property
    def fps(self) -> float:
        """Images a second, by the median."""
        return 1e3 / self.median_ms


@dataclass(frozen=True)
class Overhead:
    """How much longer a B2Inst takes than its baseline, image by image."""

    baseline: str
    model: str
    ratio: float  #: baseline's time by the model's, median over the images
    percent: float  #: more time than the baseline's, median over the images
    percent_ci95: tuple[float, float] | None  #: of that median, by ranks; None below 6 images


@dataclass(frozen=True)
class Benchmark:
    """All models of one benchmark, and how they were measured."""

    speeds: list[Speed]
    overheads: list[Overhead]
    images: int
    image_source: str
    stand_in_detections: int | None  #: an image, for models without trained weights
    device: str
    dtype: str
    threads: int  #: of the CPU

    def speed(self, model: str) -> Speed:
        """The one of a model by the name it was asked for."""
        return next(speed for speed in self.speeds if speed.model == model)

    def to_json(self) -> dict[str, Any]:
        """For a JSON file."""
        content = asdict(self)
        for entry, speed in zip(content["speeds"], self.speeds, strict=True):
            entry["fps"] = speed.fps
        return content
