"""The stored images and objects of YOLACT's fixtures, and whether they agree with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from b2inst.modules.preprocessor import SquarePreprocessor
from b2inst.structures import Targets
from reference.comparison import Check, Comparison, compare, described, exact, within
from reference.errors import VerificationError
from reference.fixtures import Case

#: Of normalised pixels, which are of the order of 1.
PIXELS = 1e-5
#: Two ways of bilinear resizing, of which the second is not ours: nor are its last bits.
OTHER_PIXELS = 1e-4
#: Of the objects' boxes to the bounds of their masks, in pixels of 550.
BOUNDS = 2.5


@dataclass(frozen=True)
class Sample:
    """An image with its objects."""

    original: NDArray[np.uint8]  #: H×W×3 RGB
    targets: Targets  #: in pixels of the square that the network sees
    boxes: NDArray[np.float64]  #: N×4, as stored, in parts of the image

    @property
    def original_size(self) -> tuple[int, int]:
        return self.original.shape[0], self.original.shape[1]


def read_samples(case: Case) -> list[Sample]:
    """The images of a case.

    Raises:
        VerificationError: something is missing or of a wrong form.
    """
    samples = []
    for i in range(len(case.images)):
        try:
            samples.append(_sample(i, case.inputs))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise VerificationError(
                f"{case.inputs_source}: image {i} and its objects cannot be read ({error!r}); "
                "fetch the reference fixtures again"
            ) from error
    return samples


def compare_inputs(
    case: Case, samples: list[Sample], preprocessor: SquarePreprocessor
) -> list[Comparison]:
    """Whether pixels follow from the originals, and boxes are those of the masks."""
    checks: dict[str, Check] = {}
    for i, sample in enumerate(samples):
        checks |= _checks(i, sample, preprocessor)
    return compare(case.inputs | {"images": case.images}, checks)


def network_input(sample: Sample, preprocessor: SquarePreprocessor) -> NDArray[np.float32]:
    """3×S×S normalised."""
    pixels = preprocessor([preprocessor.resized(sample.original)]).images[0]
    return np.asarray(pixels.numpy(), np.float32)


def other_input(sample: Sample, preprocessor: SquarePreprocessor) -> NDArray[np.float32]:
    """The same as published for speed: normalised before it is resized, by PyTorch."""
    pixels = torch.from_numpy(sample.original).permute(2, 0, 1).float()
    pixels = F.interpolate(pixels[None], preprocessor.fixed_size, mode="bilinear")[0]
    return np.asarray(preprocessor([pixels]).images[0].numpy(), np.float32)


def _sample(i: int, arrays: dict[str, NDArray[Any]]) -> Sample:
    bgr = arrays[f"orig_bgr_{i}"]
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise ValueError(f"an image is {bgr.shape} {bgr.dtype}, not H×W×3 uint8")
    count, height, width = (int(n) for n in arrays[f"gt_masks_shape_{i}"])
    truth = arrays[f"gt_{i}"].reshape(count, 5)
    bits = np.unpackbits(arrays[f"gt_masks_packed_{i}"], axis=1)[:, : height * width]
    scale = np.array([width, height, width, height])
    return Sample(
        original=np.ascontiguousarray(bgr[:, :, ::-1]),
        targets=Targets(
            image_id=i,
            boxes=torch.from_numpy(truth[:, :4] * scale).float(),
            labels=torch.from_numpy(truth[:, 4]).long(),
            masks=torch.from_numpy(bits.reshape(count, height, width)),
            semantic=torch.zeros((height, width), dtype=torch.uint8),
        ),
        boxes=truth[:, :4],
    )


def _checks(i: int, sample: Sample, preprocessor: SquarePreprocessor) -> dict[str, Check]:
    masks = sample.targets.masks.numpy()
    side, _ = preprocessor.fixed_size
    pixels = network_input(sample, preprocessor)

    def bounds(name: str, published: Any) -> Comparison:
        return within(_bounds(masks), BOUNDS, "px")(name, published[:, :4] * side)

    return {
        f"orig_bgr_{i}": exact(sample.original[:, :, ::-1]),
        f"net_input_hwc_{i}": within(pixels.transpose(1, 2, 0), PIXELS, ""),
        f"fastbase_input_s4_{i}": within(
            other_input(sample, preprocessor)[:, ::4, ::4], OTHER_PIXELS, ""
        ),
        f"gt_{i}": bounds,
        f"gt_masks_packed_{i}": exact(np.packbits(masks.reshape(len(masks), -1), axis=1)),
        f"gt_masks_shape_{i}": exact((len(masks), side, side)),
        f"images[{i}].image_id": described,
        f"images[{i}].hw": exact(sample.original_size),
    }


def _bounds(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """N×4, of N×H×W."""
    found = [
        (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0,) * 4
        for rows, columns in map(np.nonzero, masks)
    ]
    return np.array(found, np.float64).reshape(-1, 4)
