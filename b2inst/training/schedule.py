"""Length, optimiser and learning rate of a training, in iterations as in papers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:  # specs are read without PyTorch
    import torch
    from torch import nn
    from torch.optim.lr_scheduler import LambdaLR


class Schedule(BaseModel):
    """Optimiser and learning-rate schedule, by default the paper's (§7), else BlendMask's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    iterations: int = Field(default=90_000, ge=1)
    batch_size: int = Field(default=16, ge=1)  #: images per iteration, over all devices
    aspect_grouping: bool = False  #: separate batches of portrait and landscape images
    learning_rate: float = Field(default=0.01, gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)  #: not for normalisation parameters
    warmup_iterations: int = Field(default=1000, ge=0)
    warmup_factor: float = Field(default=0.001, gt=0, le=1)
    policy: Literal["steps", "one-cycle"] = "steps"  #: "one-cycle": warm-up, then cosine to 0
    milestones: tuple[int, ...] = (60_000, 80_000)
    gamma: float = Field(default=0.1, gt=0, le=1)
    clip_norm: float | None = Field(default=None, gt=0)
    log_every: int = Field(default=20, ge=1)
    checkpoint_every: int = Field(default=5000, ge=1)
    #: Iterations between early looks (``train``'s ``evaluate``); None for none.
    eval_every: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones {self.milestones} must ascend")
        return self

    def factor(self, iteration: int) -> float:
        """Return the factor of the learning rate at an iteration, counted from 0."""
        if iteration < self.warmup_iterations:
            done = iteration / self.warmup_iterations
            return self.warmup_factor * (1 - done) + done
        if self.policy == "steps":
            return self.gamma ** sum(iteration >= m for m in self.milestones)
        rest = max(self.iterations - self.warmup_iterations, 1)
        return 0.5 * (1 + math.cos(math.pi * min((iteration - self.warmup_iterations) / rest, 1)))

    def scaled_by(self, factor: float) -> Self:
        """Return the schedule for ``factor`` times the iterations: 3 makes a 3× of a 1× schedule.

        The distances of the milestones from the end are at most doubled (He et al., "Rethinking
        ImageNet Pre-training", ICCV 2019). The warm-up stays.
        """
        iterations = max(round(self.iterations * factor), 1)
        ends = (round((self.iterations - m) * min(factor, 2)) for m in self.milestones)
        milestones = tuple(iterations - end for end in ends)
        return self.model_copy(update={"iterations": iterations, "milestones": milestones})

    def of_length(self, iterations: int) -> Self:
        """Return the schedule with its warm-up and milestones scaled to a number of iterations."""
        return self._rescaled(lambda n: n * (iterations / self.iterations), iterations)

    def for_batch(self, size: int) -> Self:
        """Return the schedule for another batch size, with the same number of images.

        The learning rate grows with the size for SGD (Goyal et al. 2017), and with its square root
        for AdamW (Malladi et al. 2022).
        """
        k = size / self.batch_size
        rate = self.learning_rate * (k if self.optimizer == "sgd" else k**0.5)
        scaled = self._rescaled(lambda n: n / k, max(round(self.iterations / k), 1))
        return scaled.model_copy(update={"batch_size": size, "learning_rate": rate})

    def _rescaled(self, scale: Callable[[int], float], iterations: int) -> Self:
        milestones = tuple(round(scale(milestone)) for milestone in self.milestones)
        warmup = round(scale(self.warmup_iterations))
        scaled = {"milestones": milestones, "warmup_iterations": warmup, "iterations": iterations}
        return self.model_copy(update=scaled)

    def __str__(self) -> str:
        steps = ", ".join(map(str, self.milestones))
        decay = "then cosine to 0" if self.policy == "one-cycle" else f"× {self.gamma:g} at {steps}"
        return (
            f"{self.iterations} iterations, batch size {self.batch_size}, {self.optimizer}, "
            f"learning rate {self.learning_rate:.3g} (warm-up of {self.warmup_iterations}, {decay})"
        )

    def optimizer_for(
        self, model: nn.Module, *, fused: bool = True
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Create optimiser and scheduler; ``fused`` is faster, but clips no float16 gradients."""
        from torch import nn
        from torch.optim import SGD, AdamW
        from torch.optim.lr_scheduler import LambdaLR

        norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
        parameters: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for module in model.modules():
            own = module.parameters(recurse=False)
            parameters[isinstance(module, norms)] += [p for p in own if p.requires_grad]
        groups = [
            {"params": parameters[False], "weight_decay": self.weight_decay},
            {"params": parameters[True], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = SGD(groups, self.learning_rate, momentum=self.momentum, fused=fused)
        else:
            optimizer = AdamW(groups, self.learning_rate, fused=fused)
        return optimizer, LambdaLR(optimizer, self.factor)
