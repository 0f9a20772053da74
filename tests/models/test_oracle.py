from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from b2inst.data.transforms import _resized as resize_exactly
from b2inst.models import BasisSegmenter, ModelError, create_model


def model(**options: object) -> BasisSegmenter:
    torch.manual_seed(0)
    made = create_model("blendmask-tiny", num_classes=3, **options)
    assert isinstance(made, BasisSegmenter)
    assert made.oracle is not None
    made.instance_head.score_threshold = 0.0
    return made


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def _filled(rows: slice) -> torch.Tensor:
    mask = torch.zeros(1, 96, 128, dtype=torch.uint8)
    mask[:, rows, 20:90] = 1
    return mask


def truth(rows: slice) -> torch.Tensor:
    mask = torch.zeros(1, 48, 64, dtype=torch.uint8)
    mask[:, rows, 8:40] = 1
    return mask


@pytest.mark.parametrize(
    "options",
    [{"oracle": {"as_basis": True}}, {"oracle": {"two_sided": True}, "refine": {"diffusion": {}}}],
)
def test_masks_follow_the_truth_that_is_shown(options: dict[str, object]) -> None:
    oracle = model(**options)
    bases = oracle.basis_head(oracle.backbone(torch.randn(1, 3, 96, 128)))
    boxes = [torch.tensor([[8.0, 8, 100, 80]])]
    coefficients = torch.randn(1, oracle.assembler.num_coefficients)
    one, other = (
        oracle.assembler.assemble(oracle._with_true_boundary(bases, [truth]), boxes, coefficients)
        for truth in (_filled(slice(10, 40)), _filled(slice(50, 90)))
    )
    assert (one.probabilities - other.probabilities).abs().max() > 1e-4


def test_the_truth_is_shown_at_the_size_of_the_network() -> None:
    oracle, seen = model(oracle={}), []
    oracle.oracle.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    oracle.predict_with_truth([picture(0)], [truth(slice(4, 20))])
    assert len(seen) == 1
    (mask,) = seen[0][0]
    assert mask.shape == (96, 128)  # twice the image
    assert mask[8:40, 16:80].all()
    assert mask.sum() == 32 * 64


def test_the_truth_is_resized_as_in_training() -> None:
    oracle, seen = model(oracle={}, shorter=40, longer_max=60), []
    oracle.oracle.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    masks = torch.randint(2, (3, 48, 64), dtype=torch.uint8)
    oracle.predict_with_truth([picture(0)], [masks])
    found = seen[0][0]
    expected = resize_exactly(tv_tensors.Mask(masks), found.shape[1:])
    torch.testing.assert_close(found, expected.as_subclass(torch.Tensor))


def test_an_image_is_predicted_as_in_a_batch() -> None:
    oracle = model(oracle={"as_basis": True})
    images, truths = [picture(0), picture(1)], [truth(slice(4, 20)), truth(slice(0, 0))[:0]]
    together = oracle.predict_with_truth(images, truths)
    for found, image, masks in zip(together, images, truths, strict=True):
        alone = oracle.predict_with_truth([image], [masks])[0]
        torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)


def test_without_the_truth_it_says_what_it_lacks() -> None:
    oracle = model(oracle={"as_basis": True})
    with pytest.raises(ModelError, match="shown the true boundaries"):
        oracle.predict([picture(0)])
    with pytest.raises(ModelError, match="shown the true boundaries"):
        oracle.explain(picture(0))


def test_a_boundary_is_shown_or_predicted() -> None:
    with pytest.raises(ValueError, match=r"boundary \(predicted\) and oracle \(true\)"):
        model(oracle={}, boundary={})
