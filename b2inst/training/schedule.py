"""How long and with which steps a model trains, stated in iterations as papers do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:  # specs are read without PyTorch
    import torch
    from torch import nn
    from torch.optim.lr_scheduler import LambdaLR


class Schedule(BaseModel):
    """Optimiser and learning-rate schedule.

    The defaults are the paper's (§7) and, where it is silent, BlendMask's: SGD, 90k iterations
    of 16 images, learning rate 0.01 divided by ten at 60k and 80k, linear warm-up, no clipping.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(default=90_000, ge=1)
    batch_size: int = Field(default=16, ge=1)  #: images an iteration, over all devices
    aspect_grouping: bool = False  #: no batch mixes upright and wide images, which saves padding
    learning_rate: float = Field(default=0.01, gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)  #: normalisation parameters have none
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
        """What the learning rate is multiplied by at an iteration, counted from 0."""
        if iteration < self.warmup_iterations:
            done = iteration / self.warmup_iterations
            return self.warmup_factor * (1 - done) + done
        if self.policy == "steps":
            return self.gamma ** sum(iteration >= m for m in self.milestones)
        rest = max(self.iterations - self.warmup_iterations, 1)
        return 0.5 * (1 + math.cos(math.pi * min((iteration - self.warmup_iterations) / rest, 1)))

    def scaled_by(self, factor: float) -> Self:
        """The same schedule over ``factor`` times the images: 3 makes a 3× of a 1×.

        Steps of the learning rate are as far from the end as in a schedule of this length, but of
        no more than twice the given one: longer training goes into the high learning rate (He,
        Girshick & Dollár, "Rethinking ImageNet Pre-training", ICCV 2019). The warm-up stays.
        """
        iterations = max(round(self.iterations * factor), 1)
        return self.model_copy(
            update={
                "iterations": iterations,
                "milestones": tuple(
                    iterations - round((self.iterations - milestone) * min(factor, 2))
                    for milestone in self.milestones
                ),
            }
        )

    def of_length(self, iterations: int) -> Self:
        """The same schedule squeezed or stretched: warm-up and steps at the same fractions of it.

        Args:
            iterations: 1 or more.
        """
        factor = iterations / self.iterations
        return self.model_copy(
            update={
                "iterations": iterations,
                "milestones": tuple(round(milestone * factor) for milestone in self.milestones),
                "warmup_iterations": round(self.warmup_iterations * factor),
            }
        )

    def for_batch(self, size: int) -> Self:
        """The same training in batches of another size: as many images, seen in ``size``s.

        With k times the batch, the learning rate is k times as high for SGD (the linear scaling
        rule; Goyal et al., "Accurate, Large Minibatch SGD", 2017) and √k times for AdamW (Malladi
        et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", 2022).
        Iterations, milestones and warm-up are 1/k as many, rounded: all are at the same images.
        The rules hold approximately, and for k not far from 1.
        """
        k = size / self.batch_size
        return self.model_copy(
            update={
                "batch_size": size,
                "learning_rate": self.learning_rate * (k if self.optimizer == "sgd" else k**0.5),
                "iterations": max(round(self.iterations / k), 1),
                "milestones": tuple(round(milestone / k) for milestone in self.milestones),
                "warmup_iterations": round(self.warmup_iterations / k),
            }
        )

    def __str__(self) -> str:
        steps = ", ".join(map(str, self.milestones))
        decay = "then cosine to 0" if self.policy == "one-cycle" else f"× {self.gamma:g} at {steps}"
        return (
            f"{self.iterations} iterations of {self.batch_size} images, {self.optimizer}, learning "
            f"rate {self.learning_rate:.3g} (warm-up of {self.warmup_iterations}, {decay})"
        )

    def optimizer_for(
        self, model: nn.Module, *, fused: bool = True
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """The optimiser of a model's trainable parameters, and its learning-rate scheduler.

        Args:
            fused: all of a step in one pass over a parameter; not where float16 gradients are to
                be clipped.
        """
        import torch
        from torch.optim.lr_scheduler import LambdaLR
        from torchvision.ops._utils import split_normalization_params

        norm, other = split_normalization_params(model)
        groups = [
            {"params": [p for p in other if p.requires_grad], "weight_decay": self.weight_decay},
            {"params": [p for p in norm if p.requires_grad], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, self.learning_rate, momentum=self.momentum, fused=fused
            )
        else:
            optimizer = torch.optim.AdamW(groups, self.learning_rate, fused=fused)
        return optimizer, LambdaLR(optimizer, self.factor)
