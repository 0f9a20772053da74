"""Batch norm over the images of all devices, as if they were on one."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


def synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Have a model's batch norms, where they are trained, see the whole batch."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    # A group of their own: its sums never meet those of gradients, whichever come first.
    group: Any = dist.new_group()
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm  # keeps parameters, statistics and their names
            cast(SyncedBatchNorm, module).process_group = group


class SyncedBatchNorm(nn.BatchNorm2d):
    """What ``nn.SyncBatchNorm`` is, which works on GPUs only, for any device."""

    process_group: dist.ProcessGroup

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        values = x.float()
        axes = (0, 2, 3)
        total = torch.cat([values.sum(axes), values.new_tensor([values[:, 0].numel()])])
        total = self._summed(total)
        count = total[-1]
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        var = self._summed(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _summed(self, x: Tensor) -> Tensor:
        result: Tensor = _Sum.apply(x, self.process_group)
        return result


class _Sum(torch.autograd.Function):
    """Sum over processes. All of them depend on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradients[0], ctx.group), None
