"""Batch norm over the images of all devices."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


def synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Replace the trainable batch norms of a model by synchronised ones, in place."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    group: Any = dist.new_group()  # never mixes with the gradients' reductions
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm  # keeps parameters, buffers and their names
            cast(SyncedBatchNorm, module).process_group = group


class SyncedBatchNorm(nn.BatchNorm2d):
    """Equivalent of ``nn.SyncBatchNorm``, which supports GPUs only, for any device."""

    process_group: dist.ProcessGroup

    def forward(self: Any, x: Tensor) -> Tensor:  # of any norm, whose statistics could be None
        if not self.training:
            return super().forward(x)
        values, axes = x.float(), (0, 2, 3)
        total = torch.cat([values.sum(axes), values.new_tensor([values[:, 0].numel()])])
        total = _Sum.apply(total, self.process_group)
        count = total[-1]
        if count <= 1:
            raise ValueError(
                "expected more than 1 value per channel when training; use larger images or batches"
            )
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        var = _Sum.apply(centred.square().sum(axes), self.process_group) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over processes. All processes depend on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradients[0], ctx.group), None
