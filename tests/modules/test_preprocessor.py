from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from b2inst.modules.preprocessor import Preprocessor, SquarePreprocessor

MEAN, STD = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)


def test_normalised_first_then_padded_with_zeros() -> None:
    """Padded pixels are zero, that is, of the mean colour."""
    images = [
        torch.full((3, 33, 20), 50, dtype=torch.uint8),
        torch.full((3, 10, 70), 50, dtype=torch.uint8),
    ]
    batch = Preprocessor(mean=MEAN, std=STD)(images)
    assert batch.sizes == [(33, 20), (10, 70)]
    assert batch.images.shape == (2, 3, 64, 96)
    expected = torch.tensor([40.0, 15, 5])[:, None, None]
    for image, (height, width) in zip(batch.images, batch.sizes, strict=True):
        assert (image[:, :height, :width] == expected).all()
        assert image[:, height:].abs().max() == image[:, :, width:].abs().max() == 0


def test_blue_first_turns_the_channels_before_the_mean_is_taken() -> None:
    image = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    batch = Preprocessor(mean=MEAN, std=(1, 1, 1), bgr=True)([image])
    assert batch.images[0, :, 0, 0].tolist() == [3 - 10, 2 - 20, 1 - 30]


def test_statistics_are_no_weights() -> None:
    assert Preprocessor(mean=MEAN, std=STD).state_dict() == {}


@pytest.mark.parametrize("shape", [(40, 75), (200, 31)])
def test_images_are_squeezed_without_antialiasing(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    got = SquarePreprocessor(mean=MEAN, std=STD, side=50).resized(image)
    floats = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(floats, (50, 50), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(got, expected, atol=1e-2, rtol=0)


def test_normalised_and_not_padded() -> None:
    preprocessor = SquarePreprocessor(mean=MEAN, std=STD, side=50)
    batch = preprocessor([torch.full((3, 50, 50), 50, dtype=torch.uint8)] * 2)
    assert batch.sizes == [(50, 50), (50, 50)]
    expected = torch.tensor([40.0, 15, 5])[:, None, None].expand(2, 3, 50, 50)
    torch.testing.assert_close(batch.images, expected)
    assert preprocessor.state_dict() == {}


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="40×50 pixels for a model of 50×50"):
        SquarePreprocessor(mean=MEAN, std=STD, side=50)([torch.zeros(3, 40, 50)])
