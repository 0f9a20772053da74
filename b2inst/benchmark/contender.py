"""A model that takes part in a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from b2inst.benchmark.cost import gflops, peak_memory_mb
from b2inst.benchmark.errors import BenchmarkError
from b2inst.benchmark.samples import Sample
from b2inst.benchmark.stages import StageClock
from b2inst.benchmark.stand_in import StandIn
from b2inst.models import Segmenter, create_model
from b2inst.ops.masks import encode_rle
from b2inst.weights import load_model

_CLASSES = 80  # COCO's


class Contender:
    """Predicts samples, each timed by stage.

    Args:
        name: of the catalog, with fresh weights; or the path of a weights file.
        options: of the builder, for a model with fresh weights.
        size: (height, width) instead of the model's own test size.
        device, precision: where, and of the network (``Segmenter.precision``).
        compiled: by ``torch.compile``, instead of ``FastNetwork``.
        detections: of an image, where the weights are fresh.
        now: seconds.
        first: the sample whose operations are counted.

    Raises:
        BenchmarkError: no such model or option, or a size that the model cannot take.
        WeightsError: no such weights file.
    """

    def __init__(
        self,
        name: str,
        *,
        options: Mapping[str, Any],
        size: tuple[int, int] | None,
        device: torch.device,
        precision: str,
        compiled: bool = False,
        detections: int,
        now: Callable[[], float],
        first: Sample,
    ) -> None:
        self.name = name
        self.trained = name.endswith(".safetensors")
        self.options = {} if self.trained else dict(options)
        self.device = device
        self._model = model = load_model(name) if self.trained else _fresh(name, options)
        if size is not None:
            _resize(model, size, name)
        model.to(device).precision = precision
        self.precision = model.precision
        self.catalog_name = str(model.recipe["name"])
        self.parameters = sum(p.numel() for p in model.parameters())
        self._stand_in = None if self.trained else StandIn(model, detections)
        if compiled:
            for dense in ("backbone", "instance_head", "basis_head"):
                if (part := getattr(model, dense, None)) is not None:
                    part.forward = torch.compile(part.forward)
        self._cast = torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=compiled and precision == "bfloat16"
        )
        self._clock = StageClock(model, now)
        self.network_sizes: list[tuple[int, int]] = []
        model.backbone.register_forward_pre_hook(self._see)

        # Of the model as it is defined: no operation is known by another name, or saved.
        if self._stand_in is not None:
            self._stand_in.sample = first
        model.optimised = False
        self.gflops = gflops(lambda: model.predict([first.image]))
        model.optimised = not compiled

    def predict(self, sample: Sample) -> tuple[dict[str, float], int]:
        """From an image to run-length codes: seconds by stage, and the number of detections."""
        if self._stand_in is not None:
            self._stand_in.sample = sample
        with self._clock.running(), self._cast:
            (found,) = self._model.predict([sample.image])
            self._clock.lap("paste")
            encode_rle(found.masks)
        return self._clock.seconds, len(found)

    def peak_memory_mb(self, sample: Sample) -> float:
        """Of one prediction, beyond the weights."""
        return peak_memory_mb(lambda: self.predict(sample), self.device)

    def _see(self, _module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        self.network_sizes.append((height, width))


def _fresh(name: str, options: Mapping[str, Any]) -> Segmenter:
    """A B2Inst and its baseline get the same weights in what they share."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return create_model(name, num_classes=_CLASSES, **options).eval()
        except ValueError as error:
            raise BenchmarkError(f"{error}; weights files end with .safetensors") from None


def _resize(model: Segmenter, size: tuple[int, int], name: str) -> None:
    """Images are fitted into ``size``, or squeezed to it where the model does so."""
    preprocessor: Any = model.preprocessor
    if preprocessor.fixed_size is None:
        preprocessor.shorter, preprocessor.longer_max = min(size), max(size)
    elif size[0] == size[1]:
        preprocessor.fixed_size = size
    else:
        raise BenchmarkError(f"{name}: looks at squares; give --size such as 550x550")
