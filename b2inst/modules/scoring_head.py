"""The boundary-aware mask scoring head (paper §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.layers import RoIPooler, conv_tower, initialise, mlp
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.distributed import even_share
from b2inst.ops.quality import mask_quality
from b2inst.structures import Features, Masks

BRANCHES = ("iou", "boundary")


class ScoringHead(nn.Module):
    """Predicts the quality of each mask from the mask, its boundary and the RoI's features.

    Four convolutions are shared, of which the last halves the resolution; each quality has a fully
    connected branch of its own. Without norms, a large learning rate left dead units.

    Args:
        branches: Qualities to predict: "iou" (S_IoU), "boundary" (S_boundary) or both.
        strides: Levels that RoIs are pooled from, by box size.
        roi_size: Side of the RoIs, to which the mask and its boundary are resampled.
        pooled_channels: Project the features to these before pooling (default: no projection).
        channels, hidden: Width of the convolutions and of the fully connected layers.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        branches: Sequence[str] = BRANCHES,
        strides: Sequence[int] = (8, 16, 32),
        roi_size: int = 14,
        pooled_channels: int | None = None,
        channels: int = 256,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        if not branches or not set(branches) <= set(BRANCHES):
            raise ValueError(f"scoring branches {list(branches)}: choose from {list(BRANCHES)}")
        self.roi_size = roi_size
        self.pooler = RoIPooler(strides=strides, size=roi_size)
        self.project: nn.Module = nn.Identity()
        if pooled_channels is not None:
            self.project = nn.Conv2d(in_channels, pooled_channels, 1, bias=False)
            nn.init.kaiming_normal_(self.project.weight, nonlinearity="linear")
        kaiming = partial(nn.init.kaiming_normal_, nonlinearity="relu")
        self.convs = conv_tower((pooled_channels or in_channels) + 2, [channels] * 4)
        self.convs[-3].stride = (2, 2)  # type: ignore[assignment]  # of the last convolution
        initialise(self.convs, kaiming)  # before the branches: the same whichever they are
        inputs = channels * ((roi_size + 1) // 2) ** 2
        self.branches = nn.ModuleDict()
        for name in sorted(set(branches), key=BRANCHES.index):
            self.branches[name] = nn.Sequential(*mlp(inputs, hidden, 1, norm=nn.LayerNorm))
        initialise(self.branches, kaiming)
        for branch in self.branches.values():
            nn.init.normal_(branch[-1].weight, std=0.01)  # type: ignore[index]

    def forward(self, features: Features, boxes: list[Tensor], masks: Masks) -> dict[str, Tensor]:
        """Predict the qualities of N masks, with boxes per image: logits by branch, N each."""
        pooled = self.pool(features, boxes)
        mask = masks.resized(self.roi_size)
        boundary = laplacian_boundary(mask >= 0.5, frame="constant")
        x = torch.cat([pooled, mask[:, None].to(pooled), boundary[:, None].to(pooled)], dim=1)
        x = self.convs(x).flatten(1)
        return {name: branch(x)[:, 0].float() for name, branch in self.branches.items()}

    def pool(self, features: Features, boxes: list[Tensor]) -> Tensor:
        """Projected features inside each box, N×C×R×R, from the level that suits its size."""
        projected = {stride: self.project(features[stride]) for stride in self.pooler.strides}
        return self.pooler(projected, boxes)

    def loss(
        self, features: Features, boxes: list[Tensor], masks: Masks, truths: list[Tensor]
    ) -> dict[str, Tensor]:
        """Cross-entropy with the true qualities at each box's own resolution as soft targets.

        ``truths`` are per image the true mask of each box.
        """
        logits = self(features, boxes, masks)
        rows = zip(truths, accumulate(map(len, truths)), strict=True)
        measured = [mask_quality(masks[end - len(t) : end], t) for t, end in rows]
        true = dict(zip(BRANCHES, map(torch.cat, zip(*measured, strict=True)), strict=True))
        count = even_share(true["iou"].new_tensor(len(true["iou"])))
        cross_entropy = partial(F.binary_cross_entropy_with_logits, reduction="sum")
        return {
            f"loss_{name}_score": cross_entropy(value, true[name]) / count
            for name, value in logits.items()
        }
