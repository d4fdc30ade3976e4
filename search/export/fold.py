"""Batch normalisation put into the convolution before it, as every runtime does it before it runs a network."""

from __future__ import annotations

from copy import deepcopy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from paretofit.models.build import Network


def folded(network: Network) -> Network:
    """A copy in evaluation mode whose units of convolution and normalisation (`conv`, `norm`) are one convolution.

    A normalisation without such a convolution before it stays. Logits are equal up to rounding.
    """
    made = deepcopy(network).eval()
    for module in made.modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "norm", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.conv, module.norm = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return made
