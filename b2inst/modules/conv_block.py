"""The convolutions of basis heads."""

from __future__ import annotations

from torch import nn
from torchvision.ops import Conv2dNormActivation


def conv_block(channels_in: int, channels_out: int) -> nn.Module:
    """A 3×3 convolution without bias, batch norm and ReLU."""
    block = Conv2dNormActivation(channels_in, channels_out, norm_layer=nn.BatchNorm2d)
    nn.init.kaiming_uniform_(block[0].weight, a=1)
    return block
