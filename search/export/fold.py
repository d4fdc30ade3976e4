"""Folds batch norm into the preceding convolution, as every runtime does before it runs a network."""

from __future__ import annotations

from copy import deepcopy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from paretofit.models.build import Network


def folded(network: Network) -> Network:
    """A copy in evaluation mode with each convolution and its batch norm (`conv`, `norm`) folded into one convolution.

    Batch norm without a preceding convolution stays. Logits are equal up to rounding.
    """
    made = deepcopy(network).eval()
    for module in made.modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "norm", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.conv, module.norm = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return made
