"""ImageNet weights for backbones, through torchvision."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn
from torchvision.models import get_model_weights


class BackboneWeightsError(ValueError):
    """Backbone weights that cannot be had; the message says what to do instead."""


def load_imagenet(body: nn.Module, name: str, source: str) -> None:
    """Fill a backbone with torchvision's ImageNet weights (``IMAGENET1K_V1``).

    They are downloaded to ``$TORCH_HOME/hub/checkpoints``, unless the file is there.

    Args:
        body: A torchvision model, or the stages of a ResNet.
        name: torchvision's name of the model: "resnet18", … "resnet101", "mobilenet_v2".
        source: "imagenet".

    Raises:
        BackboneWeightsError: An unknown source, or weights that cannot be fetched or do not fit.
    """
    if source != "imagenet":
        raise BackboneWeightsError(f"backbone_weights {source!r}: choose 'imagenet' or None")
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    remedy = (
        f"save {weights.url} as {file}, or train from scratch with --option backbone_weights=null "
        "(in Python: backbone_weights=None)"
    )
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        problem = f"{file} cannot be read" if file.exists() else f"could not be fetched ({error})"
        raise BackboneWeightsError(f"ImageNet weights of {name}: {problem}; {remedy}") from error
    try:
        # The stages of a ResNet have no classifier.
        body.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    except (RuntimeError, AttributeError) as error:
        raise BackboneWeightsError(f"{file}: not the weights of {name}; {remedy}") from error
