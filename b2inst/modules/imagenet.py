"""ImageNet weights for backbones, through torchvision."""

from __future__ import annotations

from urllib.error import URLError

from torch import nn
from torchvision.models import get_model_weights


class BackboneWeightsError(ValueError):
    """Backbone weights that cannot be had; the message says what to do instead."""


def load_imagenet(body: nn.Module, resnet: str, source: str) -> None:
    """Fill a ResNet body with torchvision's ImageNet weights (fetched once, hash-checked).

    Args:
        body: the stages of a torchvision ResNet.
        resnet: "resnet18", … "resnet101".
        source: "imagenet".

    Raises:
        BackboneWeightsError: an unknown source, or weights that cannot be fetched.
    """
    if source != "imagenet":
        raise BackboneWeightsError(f"backbone_weights {source!r}: choose 'imagenet' or None")
    weights = get_model_weights(resnet)["IMAGENET1K_V1"]
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise BackboneWeightsError(
            f"ImageNet weights of {resnet} could not be fetched ({error}): download {weights.url} "
            "to torch's hub cache (checkpoints/ under TORCH_HOME/hub), or choose "
            "backbone_weights=None to train from scratch"
        ) from error
    missing, unexpected = body.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    leftover = [name for name in unexpected if not name.startswith(("fc.", "bn1.num_batches"))]
    leftover = [name for name in leftover if not name.endswith("num_batches_tracked")]
    if missing or leftover:
        raise BackboneWeightsError(f"ImageNet weights of {resnet} do not fit: {missing + leftover}")
