from __future__ import annotations

import torch
from torchvision.ops import FrozenBatchNorm2d

from b2inst.modules.frozen_norm import FrozenNorm
from b2inst.modules.resnet_fpn import ResNetFPN


def test_it_is_torchvisions_in_the_precision_of_its_input() -> None:
    torch.manual_seed(0)
    ours, theirs = FrozenNorm(8), FrozenBatchNorm2d(8)
    for name, buffer in theirs.named_buffers():
        buffer.uniform_(0.5, 2)
        ours.get_buffer(name).copy_(buffer)
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    half = x.bfloat16()
    assert theirs(half).dtype == torch.float32
    assert ours(half).dtype == torch.bfloat16
    torch.testing.assert_close(ours(half), theirs(half).bfloat16())


def test_mixed_precision_keeps_half_the_memory_of_a_backbone() -> None:
    """Of what the backward pass needs of a fixed backbone, weights apart."""
    torch.manual_seed(0)
    pyramid = ResNetFPN(resnet="resnet18", frozen_norm=True)
    parameters = {p.untyped_storage().data_ptr() for p in pyramid.parameters()}
    images = torch.rand(1, 3, 256, 256)

    def kept() -> int:
        storages = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = pyramid.body(images)  # alive, so that no memory is counted for another
        assert features
        maps = (
            t
            for p, t in storages.items()
            if p not in parameters and t.dim() == 4 and t.shape[0] == 1
        )
        return sum(t.untyped_storage().nbytes() for t in maps)

    single = kept()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = kept()
    assert mixed < 0.6 * single
