"""How important each channel of a trained seed network is.

Source: Li et al., ScaleNet (arXiv 1904.09460), section 3.2: by the scale gamma of the batch normalisation behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from paretofit.models.architecture import Architecture
from paretofit.models.kinds.aggregation import ScaleAggregation, aggregations
from paretofit.models.trace import Layer
from paretofit.search.methods.method import DatasetProfile
from paretofit.search.methods.scalenet.allocation import Site
from paretofit.search.methods.scalenet.params import ScaleNetParams


def sites(
    params: ScaleNetParams, dataset: DatasetProfile, architecture: Architecture, tensors: Mapping[str, Tensor]
) -> list[Site]:
    """The scale aggregations of the seed network, in order, from its state dict."""
    layers = {layer.name: layer for layer in architecture.layers(params.input_size(dataset))}
    found = []
    for (name, block), planes, width in zip(
        aggregations(architecture).items(), params.planes, params.fixed, strict=True
    ):
        scores = tuple(
            tuple(_score(params, gamma, layers[f"{name}.branches.{i}.conv"]) for gamma in gammas)
            for i, gammas in enumerate(_gammas(name, block, tensors))
        )
        found.append(Site(planes, scores, width=width))
    return found


def _gammas(name: str, block: ScaleAggregation, tensors: Mapping[str, Tensor]) -> list[list[float]]:
    return [tensors[f"{name}.branches.{i}.norm.weight"].tolist() for i in range(len(block.scales))]


def _score(params: ScaleNetParams, gamma: float, conv: Layer) -> float:
    """Importance over cost^exponent; the cost is that of the channel's own convolution."""
    importance = abs(gamma) if params.importance == "magnitude" else gamma
    macs = conv.macs / conv.output.channels
    return importance / math.pow(macs, params.cost_exponent)
