"""Noise as a function of a seed and a position: the same on every device, in every process and for every image.

An image's mask is therefore a function of the image and the seed, at any place of any batch, and an exported network
contains the noise as a constant.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretofit.models.trace import Size


def logistic(seed: int, stream: int, size: Size, device: torch.device) -> Tensor:
    """float32 [1, 1, height, width] with a logistic distribution: exceeding -logit is a sample of
    Bernoulli(sigmoid(logit)).

    The difference of two Gumbel variables is logistic (Jang et al., arXiv 1611.01144, for two classes).
    """
    return torch.from_numpy(_values(seed, stream, size)).to(device)


@lru_cache(maxsize=1024)
def _values(seed: int, stream: int, size: Size) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.Philox(key=[seed, stream]))
    uniform = generator.random(size)
    # Excludes 0, whose logit is infinite.
    uniform = np.clip(uniform, 1e-12, 1 - 1e-12)
    return np.log(uniform / (1 - uniform)).astype(np.float32)[None, None]
