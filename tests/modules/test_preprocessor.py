from __future__ import annotations

import torch

from b2inst.modules.preprocessor import Preprocessor

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
